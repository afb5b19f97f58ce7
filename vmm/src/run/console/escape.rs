//! Keys that are for the monitor: Ctrl-A and one more, as in QEMU.

/// Ctrl-A.
const ESCAPE: u8 = 1;

/// What the keys say, for Ctrl-A h.
pub const HELP: &str = "Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this line";

/// What the user wants of the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    End,
    Help,
}

/// Tells keys for the monitor from keys for the guest.
#[derive(Debug, Default)]
pub struct Escape {
    armed: bool,
}

impl Escape {
    /// Takes one key; what is for the guest goes to `guest`. After Ctrl-A a key without a meaning goes to
    /// the guest together with it, so a shell's own Ctrl-A needs no thought.
    pub fn key(&mut self, key: u8, guest: &mut Vec<u8>) -> Option<Command> {
        if !std::mem::take(&mut self.armed) {
            if key == ESCAPE {
                self.armed = true;
            } else {
                guest.push(key);
            }
            return None;
        }
        match key {
            b'x' | b'X' => return Some(Command::End),
            b'h' | b'H' | b'?' => return Some(Command::Help),
            ESCAPE => guest.push(ESCAPE),
            _ => guest.extend([ESCAPE, key]),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(keys: &[u8]) -> (Vec<u8>, Vec<Command>) {
        let (mut escape, mut guest) = (Escape::default(), Vec::new());
        let commands = keys.iter().filter_map(|&key| escape.key(key, &mut guest)).collect();
        (guest, commands)
    }

    #[test]
    fn only_ctrl_a_is_special() {
        assert_eq!(type_in(b"ax\x03h"), (b"ax\x03h".to_vec(), vec![]));
        assert_eq!(type_in(b"a\x01hb\x01x"), (b"ab".to_vec(), vec![Command::Help, Command::End]));
        assert_eq!(type_in(b"\x01\x01x\x01ls"), (b"\x01x\x01ls".to_vec(), vec![]));
    }
}
