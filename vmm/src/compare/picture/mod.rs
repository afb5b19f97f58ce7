//! One self-contained page: no script, nothing fetched, readable on a phone, light and dark.

mod plot;

use std::fmt::Write;

use super::analysis::{ClassResult, SettingResult};
use super::bundle::Bundle;
use super::words;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(bundle: &Bundle, classes: &[ClassResult]) -> String {
    let mut body = String::from("<h1>vmm compare</h1>\n");
    if bundle.interrupted {
        body.push_str("<p class=\"doubt\">Ended before its last run.</p>\n");
    }
    if classes.len() > 1 {
        body.push_str("<p>Times are not compared between classes of hosts: each has its own part.</p>\n");
    }
    for class in classes {
        body.push_str(&section(bundle, class));
    }
    document("vmm compare", &body)
}

/// A page around `body`.
pub fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// What stands in text and in attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing to a String cannot fail.
macro_rules! put {
    ($text:expr, $($rest:tt)*) => { _ = writeln!($text, $($rest)*) };
}

/// Everything about one class of hosts.
pub fn section(bundle: &Bundle, class: &ClassResult) -> String {
    let mut html = String::new();
    put!(html, "<section>\n<h2>{}</h2>", escape(&class.class));
    if let Some(doubt) = class.doubt {
        put!(html, "<p class=\"doubt\">{}</p>", escape(doubt));
    }
    for of in &class.settings {
        if let Some(sentence) = words::sentence(bundle, class, of) {
            put!(html, "<p class=\"so\">{}</p>", escape(&sentence));
        }
        for why in &of.failed {
            put!(html, "<p class=\"doubt\">{}: {}</p>", escape(&of.name), escape(why));
        }
    }
    html.push_str("<p class=\"key\">A dot is a run, a bar the median, a box the quartiles.</p>\n<div class=\"plots\">\n");
    html.push_str(&figures(bundle, class, |_| true));
    html.push_str("</div>\n");
    for of in &class.settings {
        html.push_str(&changes(class, of));
    }
    html.push_str("<h3>Suspected limiter</h3>\n<dl>\n");
    for of in &class.settings {
        if let Some(limiter) = &of.limiter {
            put!(html, "<dt>{}</dt><dd>{}</dd>", escape(&of.name), escape(limiter));
        }
    }
    html.push_str("</dl>\n</section>\n");
    html
}

/// One metric beside the exits: what is to be seen first.
pub fn first_sight(bundle: &Bundle, class: &ClassResult, metric: &str) -> String {
    let figures = figures(bundle, class, |name| name == metric);
    if figures.is_empty() { figures } else { format!("<div class=\"plots\">\n{figures}</div>\n") }
}

/// Plots of the metrics that are `wanted`, and of the exits.
fn figures(bundle: &Bundle, class: &ClassResult, wanted: impl Fn(&str) -> bool) -> String {
    let mut html = String::new();
    for (at, metric) in bundle.metrics.iter().enumerate().filter(|(_, metric)| wanted(&metric.name)) {
        if let Some(svg) = plot::intervals(at, metric, class) {
            let name = escape(&metric.name);
            put!(html, "<figure>\n<figcaption>{name}</figcaption>\n{svg}</figure>");
        }
    }
    if let Some(svg) = plot::exits(class) {
        put!(html, "<figure>\n<figcaption>Exits by cause</figcaption>\n{svg}</figure>");
    }
    html
}

fn changes(class: &ClassResult, of: &SettingResult) -> String {
    let (Some(first), false) = (class.settings.first(), of.changed.is_empty()) else { return String::new() };
    let mut html = String::new();
    put!(html, "<h3>What moved with {}</h3>\n<div class=\"wide\"><table>", escape(&of.name));
    let (from, to) = (escape(&first.name), escape(&of.name));
    put!(html, "<tr><th>count</th><th>{from}</th><th>{to}</th><th></th></tr>");
    for row in &of.changed {
        let (factor, unit) = words::scale(row.from.abs().max(row.to.abs()), of.per_op);
        let (from, to) = (words::figures(row.from * factor), words::figures(row.to * factor));
        let name = escape(&words::row(row.kind, &row.name));
        put!(html, "<tr><td>{name}</td><td>{from}</td><td>{to}</td><td>{unit}</td></tr>");
    }
    html.push_str("</table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::super::analysis::analyse;
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn a_page_that_needs_nothing_else() {
        let mut bundle = sample();
        bundle.settings[1].name = "<script>alert(1)</script>".into();
        let page = page(&bundle, &analyse(&bundle));
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("<script") && !page.contains("http:") && !page.contains("https:"));
        assert_eq!(page.matches("<svg").count(), 3, "two metrics and the exits");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("width=device-width"));
        assert!(page.contains("AMD &lt;1&gt;"), "{page}");
    }
}
