//! Writing many updates: in chunks that every device takes, one after the other or several at a
//! time, with the outcome told for each update that failed.

use std::{fmt, sync::Arc};

use futures::{StreamExt, stream};

use crate::{
    catalog::Catalog,
    client::{Client, in_time},
    proto::p4::v1::{self, Update, WriteRequest, write_request::Atomicity},
    rpc::{Code, RpcError, code_of},
};

/// Updates in one call. Larger ones can fail in ways that a client cannot read: 500 failures pass
/// the 16 KB that many gRPC stacks allow for trailers.
pub const CHUNK: usize = 100;

/// Calls in flight at a time for updates whose order does not matter.
pub const IN_FLIGHT: usize = 8;

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Updates a call.
    pub chunk: usize,
    /// Calls at a time. With more than one, chunks may take effect in any order.
    pub in_flight: usize,
    /// What happens to a call's other updates when one fails. Other than CONTINUE_ON_ERROR it is
    /// for the chunk, not for the whole, and few devices have it.
    pub atomicity: Atomicity,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            chunk: CHUNK,
            in_flight: 1,
            atomicity: Atomicity::ContinueOnError,
        }
    }
}

/// One update that had no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Its place among the updates that were given, from 0.
    pub index: usize,
    /// The update.
    pub update: Update,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub message: String,
}

/// Some updates failed; all others took effect.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteError {
    /// How many updates were given.
    pub total: usize,
    /// Those that failed, in their order. Never empty.
    pub failures: Vec<Failure>,
}

impl WriteError {
    /// Whether every failure has this code.
    pub fn all_are(&self, code: Code) -> bool {
        self.failures.iter().all(|failure| failure.code == code)
    }

    /// As text, with updates in names: one line a failure, at most `limit` of them.
    pub fn explain(&self, catalog: &Catalog, limit: usize) -> String {
        let mut text = format!("{} of {} updates failed", self.failures.len(), self.total);
        for failure in self.failures.iter().take(limit) {
            text.push_str(&format!(
                "\n  {}: {}: {}",
                catalog.describe_update(&failure.update),
                failure.code.as_str_name(),
                failure.message
            ));
        }
        if self.failures.len() > limit {
            text.push_str(&format!("\n  and {} more", self.failures.len() - limit));
        }
        text
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} updates failed",
            self.failures.len(),
            self.total
        )?;
        if let Some(first) = self.failures.first() {
            write!(
                f,
                "; the first is number {}: {}: {}",
                first.index + 1,
                first.code.as_str_name(),
                first.message
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for WriteError {}

impl Client {
    /// Writes updates in their order.
    ///
    /// # Errors
    /// Some failed. A call that fails as a whole fails each of its updates.
    pub async fn write(&self, updates: Vec<Update>) -> Result<(), WriteError> {
        self.write_with(updates, WriteOptions::default()).await
    }

    /// Writes updates of which none depends on another, several calls at a time.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn write_unordered(&self, updates: Vec<Update>) -> Result<(), WriteError> {
        let options = WriteOptions {
            in_flight: IN_FLIGHT,
            ..WriteOptions::default()
        };
        self.write_with(updates, options).await
    }

    /// Writes updates as the options say.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn write_with(
        &self,
        updates: Vec<Update>,
        options: WriteOptions,
    ) -> Result<(), WriteError> {
        let total = updates.len();
        let size = options.chunk.max(1);
        let mut calls = Vec::with_capacity(total.div_ceil(size));
        let mut rest = updates;
        let mut first = 0;
        while !rest.is_empty() {
            let tail = rest.split_off(size.min(rest.len()));
            let chunk = std::mem::replace(&mut rest, tail);
            let start = first;
            first += chunk.len();
            calls.push(self.write_chunk(start, chunk, options.atomicity));
        }
        let failures: Vec<Failure> = stream::iter(calls)
            .buffered(options.in_flight.max(1))
            .map(stream::iter)
            .flatten()
            .collect()
            .await;
        if failures.is_empty() {
            Ok(())
        } else {
            Err(WriteError { total, failures })
        }
    }

    async fn write_chunk(
        &self,
        start: usize,
        updates: Vec<Update>,
        atomicity: Atomicity,
    ) -> Vec<Failure> {
        #[allow(deprecated, reason = "the field must be left at its default")]
        let request = Arc::new(WriteRequest {
            device_id: self.session.device_id,
            role_id: 0,
            role: self.session.role.clone(),
            election_id: Some(self.session.election_id()),
            updates,
            atomicity: atomicity as i32,
        });
        let sent = self.transport.write(Arc::clone(&request));
        match in_time(self.session.timeout, sent).await {
            Ok(()) => Vec::new(),
            Err(error) => failures(start, Arc::unwrap_or_clone(request).updates, &error),
        }
    }
}

fn failures(start: usize, updates: Vec<Update>, error: &RpcError) -> Vec<Failure> {
    let told = error.updates.len() == updates.len();
    updates
        .into_iter()
        .enumerate()
        .filter_map(|(index, update)| {
            let own: Option<&v1::Error> = told.then(|| error.updates.get(index)).flatten();
            let (code, message) = match own {
                Some(own) if own.canonical_code == 0 => return None,
                Some(own) => (code_of(own.canonical_code), own.message.clone()),
                None => (error.code, error.message.clone()),
            };
            Some(Failure {
                index: start + index,
                update,
                code,
                message,
            })
        })
        .collect()
}
