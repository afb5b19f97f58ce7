//! The test device: by it a guest ends its machine with a status, marks how far it has come, and
//! hands over the text of its result records (`abi::port`).

use abi::mark::Mark;
use abi::port;

use crate::bus::{Effect, End, Registers};

const EXIT: u64 = 0;
const MARK: u64 = (port::MARK - port::EXIT) as u64;
const RECORD: u64 = (port::RECORD - port::EXIT) as u64;

/// The highest status that is the guest's own; beyond it are the monitor's.
const STATUS_MAX: u8 = 63;
/// Bytes kept of one record.
const LINE_MAX: usize = 64 << 10;
/// Bytes kept of all records.
const TEXT_MAX: usize = 1 << 20;

/// Records of a guest: whole lines, and what did not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Lines, each ended by a newline; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Bytes beyond 64 KiB of a line or 1 MiB of the machine's life, thrown away.
    pub dropped: u64,
}

/// The device.
#[derive(Default)]
pub struct ExitPort {
    text: Vec<u8>,
    /// Where in `text` the line begins that is being written.
    line: usize,
    /// Bytes of records handed over already: they count against [`TEXT_MAX`].
    taken: usize,
    dropped: u64,
}

impl ExitPort {
    /// Takes the whole lines since the last call: at a mark, or when the machine has ended.
    pub fn take_records(&mut self) -> Records {
        let rest = self.text.split_off(self.line);
        let lines = std::mem::replace(&mut self.text, rest);
        self.line = 0;
        self.taken += lines.len();
        Records {
            text: String::from_utf8_lossy(&lines).into_owned(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }

    /// Takes what is left when the machine has ended: a line that was never finished counts, too.
    pub fn finish(&mut self) -> Records {
        if self.text.len() > self.line {
            self.text.push(b'\n');
            self.line = self.text.len();
        }
        self.take_records()
    }

    fn record(&mut self, byte: u8) {
        let room = TEXT_MAX - (self.taken + self.text.len());
        let long = self.text.len() - self.line >= LINE_MAX;
        match byte {
            b'\n' if room > 0 => {
                self.text.push(byte);
                self.line = self.text.len();
            }
            // The last byte is kept back for a newline.
            _ if room > 1 && !long => self.text.push(byte),
            _ => self.dropped += 1,
        }
    }
}

impl Registers for ExitPort {
    fn name(&self) -> String {
        "exit-port".into()
    }

    fn register(&self, offset: u64, _write: bool) -> &'static str {
        match offset {
            EXIT => "EXIT",
            MARK => "MARK",
            RECORD => "RECORD",
            _ => "none",
        }
    }

    /// Nothing to read: it stays all ones.
    fn read(&mut self, _offset: u64, _data: &mut [u8]) {}

    /// `data` at RECORD may be a whole `rep outsb`: all of it is text.
    fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        match (offset, data) {
            (EXIT, [low, high @ ..]) => {
                let status = if high.iter().any(|&byte| byte != 0) { STATUS_MAX } else { *low };
                Effect::End(End::Exit(status.min(STATUS_MAX)))
            }
            (MARK, &[a, b, c, d]) => {
                Mark::decode(u32::from_le_bytes([a, b, c, d])).map_or(Effect::None, Effect::Mark)
            }
            (RECORD, data) => {
                data.iter().for_each(|&byte| self.record(byte));
                Effect::None
            }
            _ => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(device: &mut ExitPort, text: &[u8]) {
        assert_eq!(device.write(RECORD, text), Effect::None);
    }

    #[test]
    fn a_status_beyond_the_guests_own_is_clamped() {
        let mut device = ExitPort::default();
        for (data, status) in [(&[0][..], 0), (&[63], 63), (&[64], 63), (&[7, 0, 0, 0], 7), (&[0, 1], 63)] {
            assert_eq!(device.write(EXIT, data), Effect::End(End::Exit(status)));
        }
        assert_eq!(device.write(EXIT, &[]), Effect::None);
        assert_eq!(device.write(EXIT + 1, &[1]), Effect::None);
    }

    #[test]
    fn a_mark_is_four_bytes_that_mean_something() {
        let mut device = ExitPort::default();
        let wire = Mark::Start(3).encode().to_le_bytes();
        assert_eq!(device.write(MARK, &wire), Effect::Mark(Mark::Start(3)));
        for (offset, data) in [(MARK, &wire[..2]), (MARK + 1, &wire), (MARK, &[0; 4]), (MARK, &[0; 8])] {
            assert_eq!(device.write(offset, data), Effect::None);
        }
        let mut word = [0xff; 4];
        device.read(MARK, &mut word);
        assert_eq!(word, [0xff; 4]);
    }

    #[test]
    fn records_come_in_whole_lines() {
        let mut device = ExitPort::default();
        say(&mut device, b"one\ntw");
        assert_eq!(device.take_records().text, "one\n");
        say(&mut device, b"o\n\xff");
        assert_eq!(device.take_records().text, "two\n");
        assert_eq!(device.finish().text, "\u{fffd}\n");
        assert_eq!(device.finish(), Records::default());
    }

    #[test]
    fn a_long_line_is_cut_and_counted() {
        let mut device = ExitPort::default();
        say(&mut device, &[b'x'; LINE_MAX + 5]);
        say(&mut device, b"\nnext\n");
        let records = device.take_records();
        assert_eq!((records.text.len(), records.dropped), (LINE_MAX + 1 + 5, 5));
        assert!(records.text.ends_with("x\nnext\n"));
    }

    #[test]
    fn all_records_together_are_bounded_taken_or_not() {
        let mut device = ExitPort::default();
        let (mut kept, mut dropped) = (0, 0);
        for round in 0..40_000 {
            say(&mut device, b"0123456789012345678901234567890123456789\n\n");
            if round % 1000 == 0 {
                let records = device.take_records();
                kept += records.text.len();
                dropped += records.dropped;
            }
        }
        let rest = device.finish();
        kept += rest.text.len();
        dropped += rest.dropped;
        assert_eq!(kept as u64 + dropped, 40_000 * 42);
        assert!(kept <= TEXT_MAX && kept + 64 > TEXT_MAX, "{kept}");
        assert!(rest.text.is_empty() || rest.text.ends_with('\n'));
    }
}
