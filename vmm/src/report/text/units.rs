//! Numbers for people: three figures, the unit behind.

/// `1234567` → `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As [`count`], for what may be below zero.
pub fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// A count that may be unknown: `-`.
pub fn maybe(value: Option<u64>) -> String {
    value.map_or("-".into(), count)
}

/// `1530` ns → `1.53 µs`.
pub fn duration(ns: u64) -> String {
    scaled(ns as f64, &[(1e3, "ns"), (1e6, "µs"), (1e9, "ms"), (f64::INFINITY, "s")], 1e3)
}

/// `3670016` → `3.50 MiB`.
pub fn size(bytes: u64) -> String {
    let steps = [(1024.0, "B"), (1048576.0, "KiB"), (1073741824.0, "MiB"), (f64::INFINITY, "GiB")];
    scaled(bytes as f64, &steps, 1024.0)
}

/// Part of a whole in percent; empty without a whole.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// Per second, from a count and microseconds; empty without time.
pub fn rate(value: u64, us: u64) -> String {
    match value as f64 * 1e6 / us as f64 {
        _ if us == 0 => String::new(),
        0.0 => "0".into(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

fn scaled(value: f64, steps: &[(f64, &str)], factor: f64) -> String {
    let mut divisor = 1.0;
    for (below, unit) in steps {
        // What would round up to the next unit's 1.00 is shown there.
        if value < below * 0.9995 {
            let shown = value / divisor;
            let decimals = match shown {
                _ if divisor == 1.0 => 0,
                shown if shown >= 99.95 => 0,
                shown if shown >= 9.995 => 1,
                _ => 2,
            };
            return format!("{shown:.decimals$} {unit}");
        }
        divisor *= factor;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_figures_and_a_unit() {
        let durations = [(0, "0 ns"), (999, "999 ns"), (1530, "1.53 µs"), (999_600, "1.00 ms")];
        for (ns, text) in durations.into_iter().chain([(12_345_678, "12.3 ms"), (123_456_789_000, "123 s")]) {
            assert_eq!(duration(ns), text);
        }
        assert_eq!(
            (size(512), size(3_670_016), size(1 << 40)),
            ("512 B".into(), "3.50 MiB".into(), "1024 GiB".into())
        );
    }

    #[test]
    fn counts_shares_and_rates() {
        assert_eq!(
            (count(0), count(1234), count(1_234_567)),
            ("0".into(), "1,234".into(), "1,234,567".into())
        );
        assert_eq!((signed(-1234), maybe(None)), ("-1,234".into(), "-".into()));
        assert_eq!((share(1, 8), share(1, 0)), ("12.5 %".into(), String::new()));
        assert_eq!(
            (rate(500, 250_000), rate(1, 4_000_000), rate(0, 9)),
            ("2,000".into(), "0.2".into(), "0".into())
        );
        assert_eq!(rate(5, 0), "");
    }
}
