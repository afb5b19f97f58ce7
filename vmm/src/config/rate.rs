//! `rate=`: how much a disk or a card may do in a second, as in `50M`, `2000ops` or `50M+2000ops`.

use std::num::NonZeroU64;

use devices::virtio::rate::Rate;

const WRITTEN: &str = "not bytes, operations or both in a second, as in 50M, 2000ops or 50M+2000ops";

/// Reads one.
pub fn parse(text: &str) -> Result<Rate, &'static str> {
    let mut rate = Rate::default();
    for part in text.split('+') {
        let (place, number) = match part.strip_suffix("ops") {
            Some(number) => (&mut rate.operations, number.parse().ok()),
            None => (&mut rate.bytes, bytes(part)),
        };
        if place.replace(number.ok_or(WRITTEN)?).is_some() {
            return Err(WRITTEN);
        }
    }
    Ok(rate)
}

fn bytes(text: &str) -> Option<NonZeroU64> {
    let number = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[number.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    NonZeroU64::new(number.parse::<u64>().ok()?.checked_mul(1 << shift)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_operations_or_both() {
        let rate = |bytes, operations| {
            Ok(Rate { bytes: NonZeroU64::new(bytes), operations: NonZeroU64::new(operations) })
        };
        assert_eq!(parse("50M"), rate(50 << 20, 0));
        assert_eq!(parse("2000ops"), rate(0, 2000));
        assert_eq!(parse("2000ops+1G"), rate(1 << 30, 2000));
        assert_eq!(parse("512"), rate(512, 0));
        for wrong in
            ["", "0", "0ops", "ops", "1M+2M", "1ops+2ops", "1M+", "-1", "5X", "99999999999999G", "1MM"]
        {
            assert_eq!(parse(wrong), Err(WRITTEN), "{wrong}");
        }
    }
}
