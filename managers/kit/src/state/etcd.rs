//! A store in etcd, for managers of many machines: its protocol, one endpoint after another, with a deadline for
//! each call; and a lease that is kept alive as long as the store is used.

use std::error::Error as _;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{Life, StateError, StateStore};
use pb::compare::{CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request as Op;

/// The generated types.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "generated code; proto/etcd.proto documents it"
)]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// How long a call may take at an endpoint.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long what is bound lives after the last word of its user, in seconds.
const LEASE: i64 = 10;
/// Between two words.
const RENEW: Duration = Duration::from_secs(3);
/// Keys that are listed at a time: etcd's answers stay far below gRPC's bound of 4 MB.
const PAGE: i64 = 1000;

/// What was given as a store's place is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected etcd://HOST:PORT[,HOST:PORT…], found `{0}`")]
pub struct BadEndpoints(String);

/// A store in etcd.
pub struct EtcdStore {
    inner: Arc<Inner>,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    endpoints: Vec<String>,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which endpoint is asked, and the way to it.
    current: usize,
    channel: Option<Channel>,
    /// 0 for none.
    lease: i64,
}

/// The place of a store: `etcd://HOST:PORT[,HOST:PORT…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl FromStr for Endpoints {
    type Err = BadEndpoints;

    fn from_str(text: &str) -> Result<Self, BadEndpoints> {
        let bad = || BadEndpoints(text.to_owned());
        let list = text.strip_prefix("etcd://").ok_or_else(bad)?;
        let list: Vec<String> = list.split(',').map(str::to_owned).collect();
        let is_one = |place: &String| {
            (place.rsplit_once(':'))
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                && Endpoint::from_shared(format!("http://{place}")).is_ok()
        };
        if list.iter().all(is_one) {
            Ok(Self(list))
        } else {
            Err(bad())
        }
    }
}

impl EtcdStore {
    /// A store whose keys all begin with `prefix`. Nothing is asked before something is wanted of it.
    #[must_use]
    pub fn new(endpoints: Endpoints, prefix: &str) -> Self {
        Self {
            inner: Arc::new(Inner {
                endpoints: endpoints.0,
                prefix: prefix.to_owned(),
                state: Mutex::default(),
            }),
            renewing: Mutex::default(),
        }
    }

    /// Keeps the lease alive from now on.
    fn renew(&self) {
        let mut renewing = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        if renewing.as_ref().is_none_or(JoinHandle::is_finished) {
            *renewing = Some(tokio::spawn(Arc::clone(&self.inner).keep_alive()));
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        let renewing = self.renewing.get_mut();
        if let Some(task) = renewing.unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, key: &str) -> Bytes {
        format!("{}{key}", self.prefix).into_bytes().into()
    }

    /// The endpoint that is asked now. A way is only made when it is used, and made anew when it breaks.
    fn way(&self) -> (usize, String, Channel) {
        let mut state = self.state();
        let current = state.current;
        let at = self.endpoints.get(current).cloned().unwrap_or_default();
        let channel = state.channel.get_or_insert_with(|| {
            // It was checked when it was read.
            (Endpoint::from_shared(format!("http://{at}")))
                .unwrap_or_else(|_| Endpoint::from_static("http://127.0.0.1:2379"))
                .connect_timeout(DEADLINE)
                .tcp_nodelay(true)
                .connect_lazy()
        });
        (current, at, channel.clone())
    }

    /// The next endpoint is to be asked from now on.
    fn turn(&self, from: usize) {
        let mut state = self.state();
        if state.current == from {
            state.current = (from + 1) % self.endpoints.len().max(1);
            state.channel = None;
        }
    }

    /// Asks one endpoint after another until one answers; one that is slow is the last that is asked this time.
    async fn ask<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, StateError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut result = Err(StateError::Failed {
            at: String::new(),
            why: "there is no endpoint".to_owned(),
        });
        for _ in 0..self.endpoints.len() {
            let (place, at, channel) = self.way();
            result = match tokio::time::timeout(DEADLINE, call(channel)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Err(error(at, &status)),
                Err(_) => Err(StateError::Slow {
                    at,
                    ms: u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX),
                }),
            };
            match &result {
                Err(StateError::Unreachable { .. }) => self.turn(place),
                Err(StateError::Slow { .. }) => {
                    self.turn(place);
                    break;
                }
                _ => break,
            }
        }
        result
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, StateError> {
        self.ask(|way| {
            let request = request.clone();
            async move { KvClient::new(way).range(request).await }
        })
        .await
    }

    /// The lease to which keys are bound.
    async fn lease(&self) -> Result<i64, StateError> {
        let known = self.state().lease;
        if known != 0 {
            return Ok(known);
        }
        let granted = self.ask(|way| async move {
            let wanted = pb::LeaseGrantRequest { ttl: LEASE };
            LeaseClient::new(way).lease_grant(wanted).await
        });
        let id = granted.await?.id;
        self.state().lease = id;
        Ok(id)
    }

    fn lease_is_over(&self, lease: i64) {
        let mut state = self.state();
        if state.lease == lease {
            state.lease = 0;
        }
    }

    async fn keep_alive(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RENEW).await;
            let lease = self.state().lease;
            if lease == 0 {
                continue;
            }
            let renewed = self.ask(|way| async move {
                let word = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: lease }]);
                let mut answers = LeaseClient::new(way)
                    .lease_keep_alive(word)
                    .await?
                    .into_inner();
                let answer = answers.message().await?;
                Ok(tonic::Response::new(answer.map_or(0, |a| a.ttl)))
            });
            // Whoever uses the store sets again what has gone with it. While nothing answers it may yet be there.
            if renewed.await == Ok(0) {
                self.lease_is_over(lease);
            }
        }
    }

    async fn txn(&self, compare: pb::Compare, op: Op) -> Result<bool, StateError> {
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(op) }],
        };
        let done = self.ask(|way| {
            let request = request.clone();
            async move { KvClient::new(way).txn(request).await }
        });
        Ok(done.await?.succeeded)
    }
}

#[async_trait]
impl StateStore for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        let request = pb::RangeRequest {
            key: self.inner.key(key),
            ..pb::RangeRequest::default()
        };
        let answer = self.inner.range(request).await?;
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
    }

    async fn swap(
        &self,
        key: &str,
        old: Option<&[u8]>,
        new: Option<Bytes>,
        life: Life,
    ) -> Result<bool, StateError> {
        let key = self.inner.key(key);
        let (target, union) = match old {
            Some(old) => (
                CompareTarget::Value,
                TargetUnion::Value(Bytes::copy_from_slice(old)),
            ),
            None => (CompareTarget::Version, TargetUnion::Version(0)),
        };
        let compare = pb::Compare {
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
            ..pb::Compare::default()
        };
        let Some(value) = new else {
            let delete = Op::RequestDeleteRange(pb::DeleteRangeRequest { key });
            return self.inner.txn(compare, delete).await;
        };
        for last in [false, true] {
            let lease = match life {
                Life::Lasting => 0,
                Life::Bound => {
                    self.renew();
                    self.inner.lease().await?
                }
            };
            let (key, value) = (key.clone(), value.clone());
            let put = Op::RequestPut(pb::PutRequest { key, value, lease });
            match self.inner.txn(compare.clone(), put).await {
                // A store that was away for long has let the lease end.
                Err(StateError::Failed { why, .. }) if !last && why.contains("lease not found") => {
                    self.inner.lease_is_over(lease);
                }
                done => return done,
            }
        }
        Ok(false)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, StateError> {
        let first = self.inner.key(prefix);
        let mut request = pb::RangeRequest {
            range_end: after(&first),
            key: first,
            limit: PAGE,
        };
        let mut list = Vec::new();
        loop {
            let answer = self.inner.range(request.clone()).await?;
            let more = answer.more && !answer.kvs.is_empty();
            if let Some(last) = answer.kvs.last() {
                request.key = [&*last.key, &[0]].concat().into();
            }
            list.extend(answer.kvs.into_iter().filter_map(|kv| {
                let key = std::str::from_utf8(&kv.key).ok()?;
                let key = key.strip_prefix(&self.inner.prefix)?;
                Some((key.to_owned(), kv.value))
            }));
            if !more {
                return Ok(list);
            }
        }
    }

    async fn leave(&self) {
        let id = std::mem::take(&mut self.inner.state().lease);
        if id != 0 {
            // What cannot be said ends by itself.
            let _ = self
                .inner
                .ask(|way| async move {
                    let request = pb::LeaseRevokeRequest { id };
                    LeaseClient::new(way).lease_revoke(request).await
                })
                .await;
        }
    }

    fn place(&self) -> String {
        format!("etcd://{}", self.inner.endpoints.join(","))
    }
}

/// The first key after all that begin so.
fn after(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end.into();
        }
    }
    // To the end of all keys.
    Bytes::from_static(&[0])
}

fn error(at: String, status: &Status) -> StateError {
    let why = status.message().to_owned();
    match status.code() {
        Code::ResourceExhausted if why.contains("space exceeded") => StateError::Full { at },
        Code::Unavailable | Code::Cancelled => StateError::Unreachable { at, why },
        // Not etcd's own word: the connection broke on the way.
        _ if status.source().is_some() => StateError::Unreachable { at, why },
        Code::PermissionDenied | Code::Unauthenticated => StateError::Denied { at, why },
        // What it says of somebody without a name where names are wanted.
        Code::InvalidArgument if why.contains("user name") => StateError::Denied { at, why },
        _ => StateError::Failed { at, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_or_more_hosts_with_ports() {
        for good in [
            "etcd://127.0.0.1:2379",
            "etcd://a:1,b:2",
            "etcd://[::1]:2379",
        ] {
            assert!(good.parse::<Endpoints>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:2379",
            "http://127.0.0.1:2379",
            "etcd://",
            "etcd://a",
            "etcd://a:1,",
            "etcd://a:99999",
            "etcd://a b:1",
        ] {
            let error = bad.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.contains(&format!("found `{bad}`")), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let of = |code, text: &str| error("a:1".to_owned(), &Status::new(code, text)).to_string();
        let full = "etcdserver: mvcc: database space exceeded";
        assert!(of(Code::ResourceExhausted, full).contains("is full"));
        let denied = of(Code::PermissionDenied, "etcdserver: permission denied");
        assert_eq!(
            denied,
            "etcd at a:1 denies it: etcdserver: permission denied"
        );
        let nobody = of(Code::InvalidArgument, "etcdserver: user name is empty");
        assert!(nobody.contains("denies"), "{nobody}");
        assert!(
            of(Code::Unavailable, "etcdserver: no leader").starts_with("no etcd answers at a:1")
        );
        assert!(of(Code::Internal, "oh").contains("answers: oh"));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        let broken = error("a:1".to_owned(), &broken).to_string();
        assert!(broken.starts_with("no etcd answers at a:1"), "{broken}");
    }

    #[test]
    fn what_comes_after_a_prefix_is_the_next_of_its_length() {
        for (prefix, end) in [
            (&b"ab"[..], &b"ac"[..]),
            (b"a\xff", b"b"),
            (b"\xff", &[0]),
            (b"", &[0]),
        ] {
            assert_eq!(after(prefix), end);
        }
    }
}
