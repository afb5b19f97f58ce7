//! Every point, one a line, for spreadsheets and plots of one's own (RFC 4180).

use super::bundle::Bundle;

pub fn render(bundle: &Bundle) -> String {
    let mut text = String::from("host,setting,round,warm_up,status,ops,what,name,unit,value\r\n");
    for run in &bundle.runs {
        let head = [
            field(&bundle.hosts[run.host].class()),
            field(&bundle.settings[run.setting].name),
            run.round.to_string(),
            run.warm_up.to_string(),
            run.status.to_string(),
            run.ops.to_string(),
        ]
        .join(",");
        let mut line = |what: &str, name: &str, unit: &str, value: String| {
            text.push_str(&format!("{head},{what},{},{unit},{value}\r\n", field(name)));
        };
        for metric in &bundle.metrics {
            if let Some(value) = run.metrics.get(&metric.name) {
                let unit = match metric.unit {
                    super::bundle::Unit::Ns => "ns",
                    super::bundle::Unit::NsPerOp => "ns/op",
                    super::bundle::Unit::Number => "",
                };
                line("metric", &metric.name, unit, value.to_string());
            }
        }
        for row in &run.rows {
            line("count", &super::words::row(row.kind, &row.name), "", row.count.to_string());
        }
        if let Some(why) = &run.failed {
            line("failed", why, "", String::new());
        }
    }
    text
}

/// Quoted where it must be.
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::sample;
    use super::*;

    #[test]
    fn every_point_has_a_line() {
        let mut bundle = sample();
        bundle.settings[0].name = "a,\"b\"".into();
        let text = render(&bundle);
        assert_eq!(text.lines().count(), 1 + 10 * (2 + 3));
        assert!(text.contains(",\"a,\"\"b\"\"\",0,true,0,1000,metric,ipc,ns/op,2000\r\n"), "{text}");
        assert!(text.contains(",count,halt exits,,2000\r\n"), "{text}");
    }
}
