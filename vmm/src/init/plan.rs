//! What the monitor writes for process 1 of its guest: a file of strings, each ended by a NUL, so
//! that no string can be taken for another.

/// The plan inside the initramfs; that it is there tells process 1 that it is ours.
pub const PATH: &str = "/vmm/plan";
/// The shell's program inside the initramfs, if a workload asks for one.
pub const BUSYBOX: &str = "/bin/busybox";

/// What process 1 is to do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Modules to load.
    pub modules: Vec<Module>,
    /// `NAME[,key=value…]`.
    pub workloads: Vec<String>,
    /// Whether CPUs without work are to poll for it.
    pub polls: bool,
}

/// A module, and its parameters as finit_module(2) takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    pub path: String,
    pub parameters: String,
}

const MODULE: &str = "module ";
/// Of the module before.
const PARAMETERS: &str = "parameters ";
const WORKLOAD: &str = "workload ";
const POLLS: &str = "polls";

impl Plan {
    /// The file's contents.
    pub fn encode(&self) -> Vec<u8> {
        let modules = self.modules.iter().flat_map(|Module { path, parameters }| {
            let parameters = (!parameters.is_empty()).then_some((PARAMETERS, parameters));
            [(MODULE, path)].into_iter().chain(parameters)
        });
        let workloads = self.workloads.iter().map(|text| (WORKLOAD, text));
        let lines = modules.chain(workloads).map(|(kind, text)| format!("{kind}{text}\0"));
        lines.chain(self.polls.then(|| format!("{POLLS}\0"))).collect::<String>().into_bytes()
    }

    /// What a file says; lines of an unknown kind are left out.
    pub fn decode(bytes: &[u8]) -> Plan {
        let mut plan = Plan::default();
        for line in bytes.split(|byte| *byte == 0) {
            let line = String::from_utf8_lossy(line);
            if let Some(path) = line.strip_prefix(MODULE) {
                plan.modules.push(Module { path: path.to_owned(), ..Module::default() });
            } else if let Some(parameters) = line.strip_prefix(PARAMETERS) {
                plan.modules
                    .last_mut()
                    .iter_mut()
                    .for_each(|module| module.parameters = parameters.to_owned());
            } else if let Some(text) = line.strip_prefix(WORKLOAD) {
                plan.workloads.push(text.to_owned());
            } else if line == POLLS {
                plan.polls = true;
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_file() {
        let plan = Plan {
            modules: vec![
                Module { path: "/vmm/a.ko".into(), parameters: "x=1 y".into() },
                Module { path: "/vmm/b.ko".into(), ..Module::default() },
            ],
            workloads: vec!["null,calls=3".into(), "module x -- 'y\" \n$z".into()],
            polls: true,
        };
        assert_eq!(Plan::decode(&plan.encode()), plan);
        assert_eq!(Plan::decode(b"\0parameters x\0junk\0\xff"), Plan::default());
    }
}
