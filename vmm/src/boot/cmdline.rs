//! The kernel command line: the user's words first, then what the machine adds, each only where the
//! user has not said it already.

use crate::config::Boot;

/// What is appended to the user's command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    words: Vec<String>,
    /// What the monitor added, shown with `-v`.
    added: Vec<String>,
    /// What process 1 gets, after `--`.
    init: Vec<String>,
}

impl Cmdline {
    pub fn new(user: &str) -> Cmdline {
        Cmdline { words: user.split_whitespace().map(str::to_owned).collect(), ..Cmdline::default() }
    }

    /// The built-in kernel's: the user's words and the workloads, in order.
    pub fn with_workloads(boot: &Boot) -> Cmdline {
        let workloads = boot.workloads.iter().map(|workload| format!("workload={workload}"));
        Cmdline { added: workloads.collect(), ..Cmdline::new(&boot.cmdline) }
    }

    /// Appends `word` unless the user has given its key (what is before `=`).
    pub fn add(&mut self, word: &str) {
        let key = word.split('=').next().unwrap_or(word);
        let given = self.words.iter().any(|w| w.split('=').next() == Some(key));
        if !given {
            self.added.push(word.to_owned());
        }
    }

    /// Appends arguments for process 1, behind `--`.
    pub fn add_init(&mut self, arguments: impl IntoIterator<Item = String>) {
        self.init.extend(arguments);
    }

    /// What the monitor added.
    pub fn added(&self) -> String {
        let mut added = self.added.clone();
        if !self.init.is_empty() {
            added.push("--".into());
            added.extend(self.init.iter().cloned());
        }
        added.join(" ")
    }

    /// The whole line, without the NUL. Additions go before a `--` of the user's.
    pub fn line(&self) -> String {
        let split = self.words.iter().position(|w| w == "--").unwrap_or(self.words.len());
        let (kernel, init) = self.words.split_at(split);
        let mut all: Vec<&str> = kernel.iter().chain(&self.added).map(String::as_str).collect();
        if !init.is_empty() || !self.init.is_empty() {
            all.push("--");
            all.extend(init.iter().skip(1).chain(&self.init).map(String::as_str));
        }
        all.join(" ")
    }
}

/// What a Linux guest is told about this machine: what is absent, and how to end.
pub fn for_linux(cmdline: &mut Cmdline, serial: bool, virtio: bool) {
    if serial {
        cmdline.add("console=ttyS0");
    }
    if virtio {
        cmdline.add("console=hvc0");
    }
    // Four UARTs are probed by default; six exits for each that isn't there.
    cmdline.add(if serial { "8250.nr_uarts=1" } else { "8250.nr_uarts=0" });
    // The early quirks would look at all 32 slots by port 0xcf8, two exits each, for chipsets of real boards.
    cmdline.add("pci=noearly");
    // A panic ends the machine at once, and so does a reboot: by ACPI's reset register. Left alone, Linux
    // without a DMI table jumps into a BIOS that isn't there.
    cmdline.add("panic=-1");
    cmdline.add("reboot=a");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_word_wins() {
        let mut line = Cmdline::new("quiet console=hvc0  panic=5");
        for_linux(&mut line, true, false);
        assert_eq!(line.line(), "quiet console=hvc0 panic=5 8250.nr_uarts=1 pci=noearly reboot=a");
        assert_eq!(line.added(), "8250.nr_uarts=1 pci=noearly reboot=a");
    }

    #[test]
    fn init_arguments_stay_behind_the_dashes() {
        let mut line = Cmdline::new("quiet -- one");
        line.add("pci=off");
        line.add_init(["two".to_owned()]);
        assert_eq!(line.line(), "quiet pci=off -- one two");
    }
}
