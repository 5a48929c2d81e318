//! Whether a Linux interface can carry packets now.

use super::InterfaceError;
use super::packet_socket::{interface_flags, interface_index};

/// An interface as it was when it was looked up: one that is taken away and made again is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    name: String,
    index: i32,
}

/// What an interface is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It carries packets.
    Up,
    /// It is up, but nothing is at its other end, or that is down.
    NoCarrier,
    /// It is down.
    Down,
    /// It has been taken away.
    Gone,
}

impl Link {
    /// The interface `name`.
    ///
    /// # Errors
    /// [`InterfaceError::Missing`] when there is none.
    pub fn of(name: &str) -> Result<Self, InterfaceError> {
        match interface_index(name) {
            Ok(index) => Ok(Self {
                name: name.to_owned(),
                index,
            }),
            Err(_) => Err(InterfaceError::Missing(name.to_owned())),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both names are those of one interface, which may have several.
    pub fn is_same(&self, other: &Self) -> bool {
        self.index == other.index
    }

    /// What it is good for now.
    pub fn state(&self) -> LinkState {
        match interface_index(&self.name) {
            Ok(index) if index == self.index => {}
            _ => return LinkState::Gone,
        }
        let Some(flags) = interface_flags(&self.name) else {
            // It has another name in the list of interfaces; what it is good for is not known.
            return LinkState::Up;
        };
        // IFF_RUNNING would come up to a second after the carrier.
        let has = |flag: libc::c_int| flags & flag as libc::c_uint != 0;
        match (has(libc::IFF_UP), has(libc::IFF_LOWER_UP)) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_missing() {
        assert!(matches!(
            Link::of("no-such-if0"),
            Err(InterfaceError::Missing(name)) if name == "no-such-if0"
        ));
        let lost = Link {
            name: "no-such-if0".to_owned(),
            index: 7,
        };
        assert_eq!(lost.state(), LinkState::Gone);
    }
}
