//! `--report`: which exit reports are written, and where.

use std::path::PathBuf;
use std::str::FromStr;

use super::word::{self, UnknownWord};

/// An exit report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub format: Format,
    /// `None`: stderr.
    pub file: Option<PathBuf>,
}

/// What a report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// One `--report` as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    None,
    /// Rates each second, on stderr, while the machine runs.
    Live,
    Write(Report),
}

/// Why the reports cannot be so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Unknown(#[from] UnknownWord),
    #[error("names no file after the colon")]
    NoPath,
    #[error("none goes nowhere: it takes no file and stands alone")]
    None,
    #[error("live goes to stderr alone: it takes no file")]
    Live,
    #[error("live is for a machine")]
    NotLive,
    #[error("{0} is to be written twice")]
    Twice(String),
}

impl FromStr for Request {
    type Err = ReportError;

    /// `text|json|none[:FILE]`.
    fn from_str(text: &str) -> Result<Request, ReportError> {
        let (format, file) = match text.split_once(':') {
            None => (text, None),
            Some((_, "")) => return Err(ReportError::NoPath),
            Some((format, file)) => (format, Some(PathBuf::from(file))),
        };
        let write = |format| Request::Write(Report { format, file: None });
        let words = [
            ("text", write(Format::Text)),
            ("json", write(Format::Json)),
            ("live", Request::Live),
            ("none", Request::None),
        ];
        let words = words.each_ref().map(|(word, request)| (*word, request));
        match (word::choose(format, &words)?.clone(), file) {
            (request, None) => Ok(request),
            (Request::Write(report), file) => Ok(Request::Write(Report { file, ..report })),
            (Request::None, Some(_)) => Err(ReportError::None),
            (Request::Live, Some(_)) => Err(ReportError::Live),
        }
    }
}

impl Report {
    /// What to write; without a request, text on stderr.
    pub fn all(requests: Vec<Request>) -> Result<Vec<Report>, ReportError> {
        if requests.contains(&Request::Live) {
            return Err(ReportError::NotLive);
        }
        if requests.is_empty() {
            return Ok(vec![Report { format: Format::Text, file: None }]);
        }
        let alone = requests.len() == 1;
        let mut reports: Vec<Report> = Vec::new();
        for request in requests {
            let Request::Write(report) = request else {
                if alone {
                    return Ok(Vec::new());
                }
                return Err(ReportError::None);
            };
            if reports.iter().any(|other| other.file == report.file) {
                return Err(ReportError::Twice(
                    report.file.map_or("stderr".into(), |file| file.display().to_string()),
                ));
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Result<Vec<Report>, ReportError> {
        Report::all(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    #[test]
    fn text_on_stderr_unless_asked_otherwise() {
        let text = Report { format: Format::Text, file: None };
        assert_eq!(all(&[]), Ok(vec![text.clone()]));
        assert_eq!(all(&["none"]), Ok(vec![]));
        assert_eq!(all(&["live"]), Err(ReportError::NotLive), "a machine has taken it out");
        let json = Report { format: Format::Json, file: Some("a:b".into()) };
        assert_eq!(all(&["text", "json:a:b"]), Ok(vec![text, json]));
    }

    #[test]
    fn what_cannot_be_written() {
        assert_eq!(all(&["json:"]), Err(ReportError::NoPath));
        assert_eq!(all(&["none:x"]), Err(ReportError::None));
        assert_eq!(all(&["live:x"]), Err(ReportError::Live));
        assert_eq!(all(&["none", "text"]), Err(ReportError::None));
        assert_eq!(all(&["json:x", "text:x"]), Err(ReportError::Twice("x".into())));
        assert_eq!(all(&["yaml"]).unwrap_err().to_string(), "not one of text, json, live, none");
    }
}
