//! A record: its number, then words that follow from it, so that one that is torn is none.

use crate::random::Random;

const WORD: usize = 8;

/// Makes `page` record `number`.
pub fn fill(number: u64, page: &mut [u8]) {
    let mut random = Random::new(number, 0);
    for (at, word) in page.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
        *word = if at == 0 { number } else { random.any() }.to_le_bytes();
    }
}

/// The number of the record that `page` is; `None` where it is none, or not all of one.
pub fn number(page: &[u8]) -> Option<u64> {
    let (first, rest) = page.as_chunks::<WORD>().0.split_first()?;
    let number = u64::from_le_bytes(*first);
    let mut random = Random::new(number, 0);
    let whole = rest.iter().all(|word| u64::from_le_bytes(*word) == random.any());
    (number > 0 && whole).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_is_none() {
        let mut page = [0; 1024];
        assert_eq!(number(&page), None, "a new disk");
        fill(7, &mut page);
        assert_eq!(number(&page), Some(7));
        for at in [0, 7, 8, 511, 512, 1023] {
            page[at] ^= 1;
            assert_eq!(number(&page), None, "{at}");
            page[at] ^= 1;
        }
        let (mut before, mut torn) = ([0; 1024], page);
        fill(7 + 256, &mut before);
        torn[512..].copy_from_slice(&before[512..]);
        assert_eq!(number(&torn), None);
        assert_eq!(number(&[]), None);
    }
}
