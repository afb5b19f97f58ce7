//! `--pv`: which of KVM's paravirtual features the guest sees.

use std::str::FromStr;

use super::word::{self, UnknownWord};

/// KVM's paravirtual features shown to the guest; `None`: KVM's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pv {
    pub ipi: Option<bool>,
    pub eoi: Option<bool>,
    pub tlb: Option<bool>,
    pub yield_: Option<bool>,
    pub steal: Option<bool>,
    pub unhalt: Option<bool>,
}

/// Why the features cannot be so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PvError {
    #[error("{name:?} is {unknown}")]
    Feature { name: String, unknown: UnknownWord },
    #[error("{name}={value} is {unknown}")]
    Value { name: String, value: String, unknown: UnknownWord },
    #[error("{0} is given twice")]
    Twice(String),
}

impl Pv {
    const NAMES: [&'static str; 6] = ["ipi", "eoi", "tlb", "yield", "steal", "unhalt"];

    fn feature(&mut self, name: &str) -> Option<&mut Option<bool>> {
        match name {
            "ipi" => Some(&mut self.ipi),
            "eoi" => Some(&mut self.eoi),
            "tlb" => Some(&mut self.tlb),
            "yield" => Some(&mut self.yield_),
            "steal" => Some(&mut self.steal),
            "unhalt" => Some(&mut self.unhalt),
            _ => None,
        }
    }
}

impl FromStr for Pv {
    type Err = PvError;

    /// Names share the value that follows them: `ipi,eoi=off,tlb` is `ipi=off,eoi=off,tlb=on`.
    fn from_str(text: &str) -> Result<Pv, PvError> {
        let mut pv = Pv::default();
        let mut on = true;
        // From the end, where a name without a value finds the one that follows it already read.
        for item in text.rsplit(',') {
            let name = match item.split_once('=') {
                None => item,
                Some((name, value)) => {
                    on = word::switch(value).map_err(|unknown| PvError::Value {
                        name: name.to_owned(),
                        value: value.to_owned(),
                        unknown,
                    })?;
                    name
                }
            };
            let Some(feature) = pv.feature(name) else {
                let unknown = UnknownWord::new(name, Pv::NAMES.into_iter());
                return Err(PvError::Feature { name: name.to_owned(), unknown });
            };
            if feature.replace(on).is_some() {
                return Err(PvError::Twice(name.to_owned()));
            }
        }
        Ok(pv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_the_value_that_follows() {
        let (on, off) = (Some(true), Some(false));
        assert_eq!("ipi".parse(), Ok(Pv { ipi: on, ..Pv::default() }));
        assert_eq!("ipi,eoi=off,tlb".parse(), Ok(Pv { ipi: off, eoi: off, tlb: on, ..Pv::default() }));
        let all = "ipi,eoi,tlb,yield,steal,unhalt=off".parse();
        assert_eq!(all, Ok(Pv { ipi: off, eoi: off, tlb: off, yield_: off, steal: off, unhalt: off }));
    }

    #[test]
    fn what_is_no_feature_or_no_value() {
        assert_eq!("ipi=on,ipi=off".parse::<Pv>(), Err(PvError::Twice("ipi".into())));
        let error = "steel=on".parse::<Pv>().unwrap_err().to_string();
        assert!(
            error.starts_with("\"steel\" is not one of") && error.ends_with("did you mean steal?"),
            "{error}"
        );
        assert!(matches!("ipi=maybe".parse::<Pv>(), Err(PvError::Value { .. })));
        assert!("".parse::<Pv>().is_err());
    }
}
