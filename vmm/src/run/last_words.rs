//! What a dying Linux says on its console. pvpanic tells of a panic only once its driver is loaded;
//! before that a panic is a reset like any other, but for these words.

use std::sync::{Arc, Mutex, PoisonError};

use devices::line::Line;

const WORDS: &[u8] = b"Kernel panic - not syncing";
/// Bytes kept of the line.
const KEPT: usize = 160;

/// The panic line as it was printed, once there is one.
#[derive(Clone, Default)]
pub struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    /// The line; `None`: no panic was printed.
    pub fn said(&self) -> Option<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!said.is_empty()).then(|| String::from_utf8_lossy(&said).trim_end().to_owned())
    }
}

/// A line that listens on its way through.
pub struct Listener {
    line: Box<dyn Line>,
    words: LastWords,
    /// Bytes of [`WORDS`] matched so far; past its end the rest of the line is kept.
    matched: usize,
}

impl Listener {
    pub fn new(line: Box<dyn Line>, words: LastWords) -> Listener {
        Listener { line, words, matched: 0 }
    }

    fn listen(&mut self, byte: u8) {
        if self.matched < WORDS.len() {
            // `K` stands only at the start, so a mismatch can begin again nowhere else.
            self.matched = match byte {
                _ if byte == WORDS[self.matched] => self.matched + 1,
                _ => usize::from(byte == WORDS[0]),
            };
            return;
        }
        let mut said = self.words.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() {
            said.extend_from_slice(WORDS);
        }
        if byte == b'\n' || said.len() >= KEPT {
            // Only the first panic counts.
            self.matched = usize::MAX;
        } else if !byte.is_ascii_control() {
            said.push(byte);
        }
    }
}

impl Line for Listener {
    fn transmit(&mut self, byte: u8) {
        if self.matched != usize::MAX {
            self.listen(byte);
        }
        self.line.transmit(byte);
    }

    fn room(&mut self) {
        self.line.room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Line for Nowhere {
        fn transmit(&mut self, _: u8) {}
        fn room(&mut self) {}
    }

    fn heard(text: &str) -> Option<String> {
        let words = LastWords::default();
        let mut listener = Listener::new(Box::new(Nowhere), words.clone());
        text.bytes().for_each(|byte| listener.transmit(byte));
        words.said()
    }

    #[test]
    fn the_first_panic_is_kept_to_the_end_of_its_line() {
        let text = "[ 1.0] KKernel panic - not syncing: VFS: no root\r\n[ 1.1] Kernel panic - not syncing: x";
        assert_eq!(heard(text).as_deref(), Some("Kernel panic - not syncing: VFS: no root"));
        assert_eq!(heard("Kernel panic - not synchronized"), None);
        assert!(heard(&format!("Kernel panic - not syncing{}", "x".repeat(9000))).unwrap().len() <= KEPT);
    }
}
