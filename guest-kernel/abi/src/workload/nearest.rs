//! The word that was probably meant.

/// Longest word compared; no key or name comes near it.
const LONGEST: usize = 32;

/// The word of `words` that differs from `typed` in at most a third of its letters.
pub fn nearest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let near = |word: &'w str| Some((distance(typed.as_bytes(), word.as_bytes())?, word));
    words
        .filter_map(near)
        .min_by_key(|(d, _)| *d)
        .filter(|(d, _)| *d <= 1 + typed.len() / 3)
        .map(|(_, word)| word)
}

/// Letters to insert, delete or replace (Levenshtein), one row at a time.
fn distance(a: &[u8], b: &[u8]) -> Option<usize> {
    if a.is_empty() || b.len() > LONGEST || a.len() > LONGEST {
        return None;
    }
    let mut row: [usize; LONGEST + 1] = core::array::from_fn(|i| i);
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.get(b.len()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_near_and_far_is_nothing() {
        let words = ["items", "spin", "idle"];
        assert_eq!(nearest("itms", words.into_iter()), Some("items"));
        assert_eq!(nearest("spni", words.into_iter()), Some("spin"));
        assert_eq!(nearest("hugepages", words.into_iter()), None);
        assert_eq!(nearest("", words.into_iter()), None);
    }
}
