//! Lines of at most [`WIDTH`] columns.

/// Columns of the text report.
pub const WIDTH: usize = 100;
/// Where a paragraph's text begins; its title stands before.
const INDENT: usize = 11;

/// Appends a titled paragraph of `items`, joined by `separator` and wrapped between items.
pub fn paragraph(out: &mut String, title: &str, separator: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let mut line = format!("{title:<INDENT$}");
    let mut first = true;
    for item in items {
        let lead = if first { "" } else { separator };
        if !first && columns(&line) + columns(lead) + columns(item) > WIDTH {
            finish(out, &line);
            line = " ".repeat(INDENT) + item;
        } else {
            line = line + lead + item;
        }
        first = false;
    }
    finish(out, &line);
}

/// Appends a paragraph of running text, wrapped between words.
pub fn prose(out: &mut String, title: &str, text: &str) {
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    paragraph(out, title, " ", &words);
}

/// Appends `line` without trailing blanks, cut to the width.
pub fn finish(out: &mut String, line: &str) {
    out.push_str(cut(line.trim_end(), WIDTH).as_str());
    out.push('\n');
}

/// `text` in at most `width` columns, its cut marked.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_long() {
        let mut out = String::new();
        let items: Vec<String> = (0..40).map(|i| format!("item number {i}")).collect();
        paragraph(&mut out, "title", " · ", &items);
        prose(&mut out, "prose", &"word ".repeat(100));
        prose(&mut out, "endless", &"x".repeat(300));
        assert!(out.lines().all(|line| columns(line) <= WIDTH), "{out}");
        assert!(out.contains("item number 39"));
        assert!(out.starts_with("title      item number 0 · item"));
        assert!(out.ends_with("…\n"));
    }
}
