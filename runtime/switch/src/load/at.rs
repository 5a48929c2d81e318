//! A JSON value together with its place, so that every complaint can name where it stands.

use crate::LoadError;
use num_bigint::BigInt;
use num_traits::Num as _;
use serde_json::Value;
use std::rc::Rc;

pub(super) type Result<T> = std::result::Result<T, LoadError>;

#[derive(Debug)]
enum Step {
    Root,
    Key(Rc<Step>, String),
    Index(Rc<Step>, usize),
}

impl Step {
    fn pointer(&self) -> String {
        match self {
            Step::Root => String::new(),
            Step::Key(up, key) => {
                format!(
                    "{}/{}",
                    up.pointer(),
                    key.replace('~', "~0").replace('/', "~1")
                )
            }
            Step::Index(up, index) => format!("{}/{index}", up.pointer()),
        }
    }
}

/// A JSON value and the way to it.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) value: &'a Value,
    step: Rc<Step>,
}

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        At {
            value,
            step: Rc::new(Step::Root),
        }
    }

    /// The member `key`, if there is one and it is not null.
    pub(super) fn maybe(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key)?;
        if value.is_null() {
            return None;
        }
        Some(At {
            value,
            step: Rc::new(Step::Key(self.step.clone(), key.to_owned())),
        })
    }

    /// The member `key`, which has to be there (and may be null).
    pub(super) fn get(&self, key: &str) -> Result<At<'a>> {
        match self.value.get(key) {
            Some(value) => Ok(At {
                value,
                step: Rc::new(Step::Key(self.step.clone(), key.to_owned())),
            }),
            None => Err(self.invalid(&format!("an object with `{key}`"))),
        }
    }

    /// The element at `index`.
    pub(super) fn at(&self, index: usize) -> Result<At<'a>> {
        match self.value.get(index) {
            Some(value) => Ok(At {
                value,
                step: Rc::new(Step::Index(self.step.clone(), index)),
            }),
            None => Err(self.invalid(&format!("a list with at least {} elements", index + 1))),
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Result<Vec<At<'a>>> {
        match self.value.as_array() {
            Some(list) => Ok(list
                .iter()
                .enumerate()
                .map(|(i, value)| At {
                    value,
                    step: Rc::new(Step::Index(self.step.clone(), i)),
                })
                .collect()),
            None => Err(self.invalid("a list")),
        }
    }

    /// The elements of the list `key`; none if it is missing or null.
    pub(super) fn list_of(&self, key: &str) -> Result<Vec<At<'a>>> {
        self.maybe(key).map_or(Ok(Vec::new()), |list| list.list())
    }

    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    pub(super) fn str(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.invalid("a string"))
    }

    pub(super) fn bool(&self) -> Result<bool> {
        self.value
            .as_bool()
            .ok_or_else(|| self.invalid("`true` or `false`"))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.maybe(key).map_or(Ok(default), |at| at.bool())
    }

    pub(super) fn u64(&self) -> Result<u64> {
        self.value
            .as_u64()
            .ok_or_else(|| self.invalid("a number from 0"))
    }

    /// A number that counts things in memory: at most 2^24.
    pub(super) fn count(&self) -> Result<usize> {
        match self.u64()? {
            n if n <= 1 << 24 => Ok(n as usize),
            _ => Err(self.invalid("a number up to 16777216")),
        }
    }

    /// A number written in hexadecimal, with a sign if it is negative.
    pub(super) fn hex(&self) -> Result<BigInt> {
        let text = self.str()?;
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let digits = digits
            .strip_prefix("0x")
            .or(digits.strip_prefix("0X"))
            .unwrap_or(digits);
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match BigInt::from_str_radix(digits, 16) {
            Ok(value) if valid => Ok(if negative { -value } else { value }),
            _ => Err(self.invalid("a hexadecimal number as a string")),
        }
    }

    /// A complaint: this should have been something else.
    pub(super) fn invalid(&self, expected: &str) -> LoadError {
        let mut found = self.value.to_string();
        if found.len() > 80 {
            let end = (0..=77)
                .rev()
                .find(|i| found.is_char_boundary(*i))
                .unwrap_or(0);
            found.truncate(end);
            found.push_str("...");
        }
        LoadError::Invalid {
            at: self.pointer(),
            expected: expected.to_owned(),
            found,
        }
    }

    /// A complaint: this is right, but not done here.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> LoadError {
        LoadError::Unsupported {
            at: self.pointer(),
            what: what.into(),
        }
    }

    /// The JSON pointer to it.
    pub(super) fn pointer(&self) -> String {
        match self.step.pointer() {
            pointer if pointer.is_empty() => "/".to_owned(),
            pointer => pointer,
        }
    }
}
