//! Who decides for which service, and who stands by.

use std::time::Duration;

use super::{Part, ServiceIndex, Span};

/// A service manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// The services it decides for, ascending; none if it only stands by.
    pub serves: Vec<ServiceIndex>,
    /// The parts of those that are divided.
    pub parts: Vec<(ServiceIndex, Part)>,
    /// Who takes its place when it is gone.
    pub backup: Option<Backup>,
    /// Where it stands first.
    pub span: Span,
}

impl Manager {
    /// Its part of a service, if that is divided.
    pub fn part_of(&self, service: ServiceIndex) -> Option<&Part> {
        let mut parts = self.parts.iter();
        parts.find(|(of, _)| *of == service).map(|(_, part)| part)
    }
}

/// Who takes a manager's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The other's place among [`Policy::managers`](super::Policy::managers); never the manager's own.
    pub manager: usize,
    /// How long after the first one's last sign of life, 300 ms to 1 h. Default 3 s.
    pub after: Duration,
    /// Whether it is told of decisions as they are made. Default no: it learns them from agents when it takes
    /// over.
    pub replicate: Option<Replicate>,
    /// Where it is said.
    pub span: Span,
}

/// When a backup knows of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replicate {
    /// Before it takes effect.
    Sync,
    /// Soon after.
    Async,
}
