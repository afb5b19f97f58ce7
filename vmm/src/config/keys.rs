//! `key=value,…`: how a device is written on the command line.

use std::path::PathBuf;

use super::word::{UnknownWord, switch};

/// One `key=value`, or a bare `key`, which switches something on.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub key: &'a str,
    pub value: Option<&'a str>,
}

/// What is wrong with an item.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("key {key:?}: {unknown}")]
    Unknown { key: String, unknown: UnknownWord },
    #[error("{0} is given twice")]
    Twice(String),
    #[error("{0} needs a value: {0}=…")]
    Valueless(String),
    #[error("{key}={value}: {why}")]
    Value { key: String, value: String, why: String },
    #[error("{0}")]
    Whole(&'static str),
}

/// The items of `text`, none of them twice, all keys among `known`.
pub fn items<'a>(text: &'a str, known: &'static [&'static str]) -> Result<Vec<Item<'a>>, KeyError> {
    let mut items: Vec<Item> = Vec::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        if !known.contains(&key) {
            let unknown = UnknownWord::new(key, known.iter().copied());
            return Err(KeyError::Unknown { key: key.into(), unknown });
        }
        if items.iter().any(|item| item.key == key) {
            return Err(KeyError::Twice(key.into()));
        }
        items.push(Item { key, value });
    }
    Ok(items)
}

impl<'a> Item<'a> {
    /// The value, which must be there.
    pub fn text(&self) -> Result<&'a str, KeyError> {
        self.value.filter(|value| !value.is_empty()).ok_or_else(|| KeyError::Valueless(self.key.into()))
    }

    /// The value as `parse` reads it.
    pub fn parse<T, E: ToString>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, KeyError> {
        let value = self.text()?;
        parse(value).map_err(|why| KeyError::Value {
            key: self.key.into(),
            value: value.into(),
            why: why.to_string(),
        })
    }

    /// `key`, `key=on` or `key=off`.
    pub fn switch(&self) -> Result<bool, KeyError> {
        if self.value.is_none() { Ok(true) } else { self.parse(switch) }
    }
}

/// A Unix socket's path (unix(7): 108 bytes with the zero at its end).
pub fn socket(text: &str) -> Result<PathBuf, &'static str> {
    if text.len() < 108 { Ok(text.into()) } else { Err("the path of a socket has at most 107 bytes") }
}

/// A count of queues, 1 to 16.
pub fn queues(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|queues| (1..=16).contains(queues)).ok_or("not a number from 1 to 16")
}
