//! Why one update or one read was refused: a canonical code and a sentence that names the place.

use signalbox_p4runtime::{CatalogError, Code, RpcError, proto::p4::v1};

use crate::{ControlError, error::BadField};

/// A refused update; it had no effect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub code: Code,
    pub message: String,
}

pub(super) type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::InvalidArgument, message)
    }

    pub fn unimplemented(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::Unimplemented, message)
    }

    pub fn denied(message: impl Into<String>) -> Refusal {
        Refusal::new(Code::PermissionDenied, message)
    }

    /// Puts the place before the message; simple_switch_grpc's own words stay as they are.
    #[must_use]
    pub fn at(mut self, place: &str) -> Refusal {
        if self.code == Code::Unknown {
            return self;
        }
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub fn into_error(self) -> v1::Error {
        v1::Error {
            canonical_code: self.code as i32,
            message: self.message,
            ..v1::Error::default()
        }
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> RpcError {
        RpcError::new(refusal.code, refusal.message)
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Refusal {
        Refusal::invalid(error.to_string())
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Refusal {
        use ControlError as E;
        let code = match &error {
            E::NoPipeline => Code::FailedPrecondition,
            E::AlreadyExists => Code::AlreadyExists,
            E::NotFound | E::NoSuchMember(_) | E::NoSuchGroup(_) => Code::NotFound,
            E::TableFull { .. } => Code::ResourceExhausted,
            E::ConstTable(_) | E::ConstDefaultAction(_) => Code::PermissionDenied,
            E::InUse => Code::FailedPrecondition,
            E::IndexOutOfRange { .. }
            | E::ValueTooWide { .. }
            | E::ParameterTooWide { .. }
            | E::BadKey {
                why: BadField::TooWide { .. },
                ..
            } => Code::OutOfRange,
            E::BadKeyLength { .. }
            | E::BadKey { .. }
            | E::ForeignAction { .. }
            | E::BadParameterCount { .. }
            | E::BadPriority { .. }
            | E::WrongEntryKind { .. }
            | E::NoTimeout(_)
            | E::NoDirectResource { .. }
            | E::BadMeterConfig(_)
            | E::NoSelector(_)
            | E::BadId { .. } => Code::InvalidArgument,
            // The binding has looked these up before.
            E::NoSuchTable(_)
            | E::NoSuchAction(_)
            | E::NoSuchCounter(_)
            | E::NoSuchMeter(_)
            | E::NoSuchRegister(_)
            | E::NoSuchActionProfile(_)
            | E::NoSuchValueSet(_) => Code::Internal,
        };
        Refusal::new(code, error.to_string())
    }
}
