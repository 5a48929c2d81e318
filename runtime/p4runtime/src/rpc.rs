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

/// What fits into the trailers of a failed call. Clients take 8,192 bytes, and 100 more for each
/// update if they know that they should ("Error reporting"): 63 of those go to a result's code.
const TRAILERS: usize = 7_000;

/// Bytes of all updates' messages together that there is always room for.
const LEAST_MESSAGES: usize = 1_024;

/// Bytes of the message for the whole call, which the trailers hold twice.
const CALL_MESSAGE: usize = 512;

/// Bytes of the message of a call without updates.
const PLAIN_MESSAGE: usize = 4_096;

/// At most `most` bytes of a text, with a sign of what is missing.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let sign = "…";
    let mut end = most.saturating_sub(sign.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{sign}", text.get(..end).unwrap_or_default())
}

impl From<RpcError> for tonic::Status {
    fn from(error: RpcError) -> tonic::Status {
        let code = tonic::Code::from_i32(error.code as i32);
        if error.updates.is_empty() {
            return tonic::Status::new(code, shortened(&error.message, PLAIN_MESSAGE));
        }
        let message = shortened(&error.message, CALL_MESSAGE);
        // Base64 makes four bytes of three. All codes go out; the messages as far as there is room.
        let codes = error.updates.len() * (ERROR_URL.len() + 12);
        let mut room = (TRAILERS.saturating_sub(message.len()) / 4 * 3)
            .saturating_sub(codes + message.len())
            .max(LEAST_MESSAGES);
        let details = error
            .updates
            .into_iter()
            .map(|mut update| {
                if update.message.len() > room {
                    update.message = shortened(&update.message, room.min(CALL_MESSAGE));
                    if room < 40 {
                        update.message.clear();
                    }
                    room = 0;
                } else {
                    room -= update.message.len();
                }
                prost_types::Any {
                    type_url: ERROR_URL.to_owned(),
                    value: update.encode_to_vec(),
                }
            })
            .collect();
        let details = rpc::Status {
            code: error.code as i32,
            message: message.clone(),
            details,
        };
        tonic::Status::with_details(code, message, Bytes::from(details.encode_to_vec()))
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
    fn the_results_of_many_updates_fit_into_what_clients_take() {
        for count in [1, 30, 100, 1_000] {
            let error = RpcError::of_updates(vec![
                v1::Error {
                    canonical_code: Code::NotFound as i32,
                    message: "table `filter`: there is no entry with this key ".repeat(3),
                    ..v1::Error::default()
                };
                count
            ]);
            let status = tonic::Status::from(error.clone());
            let trailers = status.details().len().div_ceil(3) * 4 + status.message().len();
            // Room for the names of the trailers, and for headers of other making.
            assert!(trailers < 7_600 + 100 * count, "{count}: {trailers}");
            if count <= 30 {
                assert!(trailers < 7_600, "{count}: {trailers}");
            }
            let read = RpcError::from(status);
            assert_eq!(read.updates.len(), count);
            assert!(
                read.updates
                    .iter()
                    .all(|e| e.canonical_code == Code::NotFound as i32)
            );
            assert_eq!(read.updates[0].message, error.updates[0].message);
        }
        let long = RpcError::new(Code::InvalidArgument, "ä".repeat(5_000));
        assert!(tonic::Status::from(long).message().len() <= PLAIN_MESSAGE);
    }

    #[test]
    fn a_plain_status_keeps_code_and_message() {
        let error = RpcError::new(Code::PermissionDenied, "not primary");
        assert_eq!(RpcError::from(tonic::Status::from(error.clone())), error);
    }
}
