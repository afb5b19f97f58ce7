//! All experiments that were run, as one self-contained page.

use std::fmt::Write;

use super::Result;
use super::catalogue::Experiment;
use super::judge::Verdict;
use super::text;
use super::tools::Beside;
use crate::compare::picture::{document, escape, first_sight, section};
use crate::compare::words;

/// Writing to a String cannot fail.
macro_rules! put {
    ($text:expr, $($rest:tt)*) => { _ = writeln!($text, $($rest)*) };
}

pub fn render(results: &[Result]) -> String {
    let mut body = String::from("<h1>Published experiments, run again</h1>\n<ul>\n");
    for Result { experiment, judgement, .. } in results {
        let (name, title) = (escape(&experiment.name), escape(&experiment.title));
        put!(body, "<li><a href=\"#{name}\">{title}</a>: {}</li>", verdict(judgement.verdict));
    }
    body.push_str("</ul>\n");
    for result in results {
        body.push_str(&one(result));
    }
    document("vmm repro", &body)
}

fn verdict(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::SameDirection => "same",
        Verdict::OtherDirection => "other",
        Verdict::NoVisibleDifference | Verdict::NotJudged => "unknown",
    };
    format!("<span class=\"{class}\">{}</span>", verdict.label())
}

fn one(result: &Result) -> String {
    let Result { experiment, judgement, .. } = result;
    let mut html = String::new();
    let (name, title) = (escape(&experiment.name), escape(&experiment.title));
    let doubt = judgement.doubt.map_or(String::new(), |doubt| format!(" · {}", escape(doubt)));
    put!(html, "<article id=\"{name}\">\n<h1>{title}</h1>\n<p>{}{doubt}</p>", verdict(judgement.verdict));
    let facts = [
        ("source", Some(experiment.source.clone())),
        ("compared", Some(experiment.compared.clone())),
        ("mended", experiment.defects.clone()),
        ("should", Some(experiment.mechanism.clone())),
        ("size", Some(text::size(result))),
    ];
    html.push_str("<dl>\n");
    for (name, fact) in facts.iter().filter_map(|(name, fact)| Some((name, fact.as_ref()?))) {
        put!(html, "<dt>{name}</dt><dd>{}</dd>", escape(fact));
    }
    html.push_str("</dl>\n<div class=\"wide\"><table>\n<tr><th></th><th>published</th><th>ratio</th>");
    put!(html, "<th>here</th><th>ratio</th><th>95 % interval</th><th></th></tr>");
    for row in &judgement.rows {
        let published =
            row.published.map_or("–".into(), |value| format!("{} {}", words::figures(value), row.unit));
        let ratio = |ratio: Option<f64>| ratio.map_or("–".into(), words::ratio);
        let here = row.here_ns.map_or("–".into(), |ns| text::here(experiment, ns));
        let interval = row.here_interval.map_or(String::new(), words::interval);
        let said = if row.published.is_some() { verdict(row.verdict) } else { String::new() };
        let (theirs, ours) = (ratio(row.published_ratio), ratio(row.here_ratio));
        let name = escape(&text::name(row));
        put!(
            html,
            "<tr><td>{name}</td><td>{}</td><td>{theirs}</td><td>{here}</td><td>{ours}</td><td>{interval}</td><td>{said}</td></tr>",
            escape(&published)
        );
    }
    html.push_str("</table></div>\n");
    result.beside.iter().for_each(|beside| html.push_str(&tools(experiment, beside)));
    for why in result
        .classes()
        .iter()
        .flat_map(|class| &class.settings)
        .flat_map(|of| of.failed.iter().map(|why| format!("{}: {}", escape(&of.name), escape(why))))
    {
        put!(html, "<p class=\"doubt\">{why}</p>");
    }
    html.push_str("<h3>Claimed</h3>\n<ul>\n");
    for claim in &judgement.claims {
        let (claim, found, said) = (escape(&claim.claim), escape(&claim.found), verdict(claim.verdict));
        put!(html, "<li>{claim}: {found} · {said}</li>");
    }
    html.push_str("</ul>\n");
    if !result.left_out.is_empty() {
        html.push_str("<h3>Left out</h3>\n<ul>\n");
        for (name, why) in &result.left_out {
            put!(html, "<li>{}: {}</li>", escape(name), escape(why));
        }
        html.push_str("</ul>\n");
    }
    for class in result.classes() {
        html.push_str(&first_sight(&result.bundle, &class, &experiment.metric));
        let all = section(&result.bundle, &class);
        put!(html, "<details>\n<summary>Every measurement, and what limits it</summary>\n{all}</details>");
    }
    html.push_str("</article>\n");
    html
}

/// Our workload and the tool that everyone knows, place by place.
fn tools(experiment: &Experiment, beside: &Beside) -> String {
    let mut html = String::new();
    let name = escape(&beside.name);
    put!(html, "<h3>{name} in the same places</h3>\n<div class=\"wide\"><table class=\"numbers\">");
    put!(html, "<tr><th></th><th>ours</th><th>{name}</th><th>ratio</th><th>95 % interval</th>");
    put!(html, "<th>exits: ours</th><th>exits: {name}</th></tr>");
    for pair in &beside.pairs {
        let [ours, tool] =
            [pair.ours_ns, pair.tool_ns].map(|ns| ns.map_or("–".into(), |ns| text::here(experiment, ns)));
        let [ours_exits, tool_exits] =
            [pair.ours_exits, pair.tool_exits].map(|exits| exits.map_or("–".into(), words::figures));
        let ratio = pair.ratio.map_or("–".into(), words::ratio);
        let interval = pair.interval.map_or(String::new(), words::interval);
        let setting = escape(&pair.setting);
        put!(
            html,
            "<tr><td>{setting}</td><td>{ours}</td><td>{tool}</td><td>{ratio}</td><td>{interval}</td><td>{ours_exits}</td><td>{tool_exits}</td></tr>"
        );
    }
    html.push_str("</table></div>\n<p class=\"key\">The tool's time to ours; exits are for one operation, the tool's with its start and end.</p>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::super::judge::tests::experiment;
    use super::*;
    use crate::compare::bundle::tests::sample;

    #[test]
    fn one_page_for_all() {
        let result = || {
            let (experiment, bundle) = (experiment(), sample());
            let judgement = judge::judge(&experiment, &bundle);
            Result { experiment, full: true, left_out: Vec::new(), bundle, judgement, beside: None }
        };
        let page = render(&[result(), result()]);
        assert_eq!(page.matches("<article").count(), 2);
        assert!(page.contains("&lt;t&gt;") && !page.contains("<t>"), "{page}");
        assert!(page.contains("<span class=\"same\">same direction</span>"), "{page}");
    }
}
