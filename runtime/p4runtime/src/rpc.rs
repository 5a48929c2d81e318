//! The outcome of a failed call, whichever way it went: a canonical code, a message, and for a
//! Write one result an update. Over gRPC the results travel in `grpc-status-details-bin`.

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::proto::{google::rpc, p4::v1};

pub use crate::proto::google::rpc::Code;

/// The type URL of one update's result.
const ERROR_URL: &str = "type.googleapis.com/p4.v1.Error";

/// A call that the device refused, or that did not reach it.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}: {message}", code.as_str_name())]
pub struct RpcError {
    /// The canonical code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// For a Write: one an update, in their order, `OK` for those that went well. Else empty.
    pub updates: Vec<v1::Error>,
}

impl RpcError {
    /// An error without results of updates.
    pub fn new(code: Code, message: impl Into<String>) -> RpcError {
        RpcError {
            code,
            message: message.into(),
            updates: Vec::new(),
        }
    }

    /// The error of a Write of which at least one update failed.
    pub fn of_updates(updates: Vec<v1::Error>) -> RpcError {
        let failed = updates.iter().filter(|e| e.canonical_code != 0).count();
        let first = updates
            .iter()
            .enumerate()
            .find(|(_, e)| e.canonical_code != 0);
        let message = match first {
            Some((index, error)) => format!(
                "{failed} of {} updates failed; the first is number {}: {}",
                updates.len(),
                index + 1,
                error.message
            ),
            None => String::new(),
        };
        RpcError {
            // The specification asks for UNKNOWN: the codes are in the details.
            code: Code::Unknown,
            message,
            updates,
        }
    }
}

/// A canonical code by its number; a number that is none is UNKNOWN.
pub fn code_of(number: i32) -> Code {
    Code::try_from(number).unwrap_or(Code::Unknown)
}

impl From<tonic::Status> for RpcError {
    fn from(status: tonic::Status) -> RpcError {
        let details = rpc::Status::decode(status.details()).unwrap_or_default();
        let updates: Vec<v1::Error> = details
            .details
            .iter()
            .filter(|any| any.type_url.ends_with("/p4.v1.Error"))
            .map(|any| {
                v1::Error::decode(any.value.as_slice()).unwrap_or_else(|error| v1::Error {
                    canonical_code: Code::Unknown as i32,
                    message: format!("the device sent an unreadable result: {error}"),
                    ..v1::Error::default()
                })
            })
            .collect();
        let mut message = status.message().to_owned();
        if message.is_empty() && updates.is_empty() {
            message = status.code().description().to_owned();
        }
        RpcError {
            code: code_of(i32::from(status.code())),
            message,
            updates,
        }
    }
}

impl From<RpcError> for tonic::Status {
    fn from(error: RpcError) -> tonic::Status {
        let code = tonic::Code::from_i32(error.code as i32);
        if error.updates.is_empty() {
            return tonic::Status::new(code, error.message);
        }
        let details = rpc::Status {
            code: error.code as i32,
            message: error.message.clone(),
            details: error
                .updates
                .iter()
                .map(|update| prost_types::Any {
                    type_url: ERROR_URL.to_owned(),
                    value: update.encode_to_vec(),
                })
                .collect(),
        };
        tonic::Status::with_details(code, error.message, Bytes::from(details.encode_to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_updates_survive_the_trailers() {
        let error = RpcError::of_updates(vec![
            v1::Error::default(),
            v1::Error {
                canonical_code: Code::AlreadyExists as i32,
                message: "entry 10.0.0.1 is in `fixed` already".to_owned(),
                ..v1::Error::default()
            },
        ]);
        assert_eq!(
            error.to_string(),
            "UNKNOWN: 1 of 2 updates failed; the first is number 2: entry 10.0.0.1 is in \
             `fixed` already"
        );
        assert_eq!(RpcError::from(tonic::Status::from(error.clone())), error);
    }

    #[test]
    fn a_plain_status_keeps_code_and_message() {
        let error = RpcError::new(Code::PermissionDenied, "not primary");
        assert_eq!(RpcError::from(tonic::Status::from(error.clone())), error);
    }
}
