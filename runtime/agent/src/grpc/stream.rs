//! What every session over gRPC has in common: a stream in both directions, whose ends look like any other
//! [`crate::channel`]. What is said there is the caller's: a service of its own, and what turns its messages into
//! those of the wire and back.
//!
//! A message that makes no sense ends the session with INVALID_ARGUMENT and the field's name.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, future};
use signalbox_p4runtime::grpc::{CONNECTION_WINDOW, STREAM_WINDOW};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::server::Router;
use tonic::transport::{self, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::channel::{Channel, Memory};
use crate::wire::WireError;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// No connection.
    #[error("no {who} answers at `{address}`: {source}")]
    Connect {
        /// Who was to answer.
        who: &'static str,
        /// Where.
        address: String,
        /// Why.
        source: transport::Error,
    },
    /// The other end would not open the session.
    #[error("the {who} at `{address}` refused the session: {message}")]
    Refused {
        /// Who.
        who: &'static str,
        /// Where.
        address: String,
        /// Why.
        message: String,
    },
    /// The port could not be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What the end that listens says.
pub type Answers<O> = BoxStream<'static, Result<O, Status>>;

/// A server for messages that are small and come in bursts.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// Serves what is named `what` on an address, which should be a loopback one. Returns the address that it
/// listens on.
///
/// # Errors
/// The address cannot be bound.
pub async fn listen(
    address: SocketAddr,
    router: Router,
    what: &'static str,
) -> Result<(SocketAddr, JoinHandle<()>), GrpcError> {
    let failed = |source| GrpcError::Listen { address, source };
    let listener = (tokio::net::TcpListener::bind(address).await).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let server = router.serve_with_incoming(TcpListenerStream::new(listener));
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the {what} server has stopped");
        }
    });
    Ok((bound, task))
}

/// Answers a session that the other end has opened; its near end goes to `sessions`.
///
/// # Errors
/// Nobody takes sessions any more.
pub fn answer<I, O, S, R>(
    request: Request<Streaming<I>>,
    read: fn(I) -> Result<R, WireError>,
    write: fn(&S) -> O,
    sessions: &mpsc::UnboundedSender<Box<dyn Channel<S, R>>>,
) -> Result<Response<Answers<O>>, Status>
where
    I: Send + 'static,
    O: Send + 'static,
    S: Send + 'static,
    R: Send + 'static,
{
    let (taken, from_far) = mpsc::unbounded_channel();
    let (to_far, outgoing) = mpsc::unbounded_channel();
    let (end, ended) = mpsc::unbounded_channel();
    let incoming = request.into_inner();
    tokio::spawn(async move {
        if let Some(error) = take_in(incoming, read, taken).await {
            let _ = end.send(Status::invalid_argument(error.to_string()));
        }
    });
    (sessions.send(Box::new(Memory::new(to_far, from_far))))
        .map_err(|_| Status::unavailable("it is going down"))?;
    let messages = UnboundedReceiverStream::new(outgoing).map(move |m| Ok(write(&m)));
    let errors = UnboundedReceiverStream::new(ended).map(Err);
    // The session ends when the near end is dropped; an error of the far end's ends it as well.
    let messages = messages.map(Some).chain(stream::iter([None]));
    let answers = stream::select(messages, errors.map(Some))
        .take_while(|m| future::ready(m.is_some()))
        .filter_map(future::ready);
    Ok(Response::new(answers.boxed()))
}

/// Whom to open a session with.
#[derive(Debug, Clone, Copy)]
pub struct Far<'a> {
    /// Who answers there, as errors name it.
    pub who: &'static str,
    /// An address such as `http://127.0.0.1:9560`.
    pub address: &'a str,
    /// Between two questions whether it still answers: a machine that is gone does not close its end.
    pub ask: Duration,
    /// How long it may keep silent.
    pub silence: Duration,
}

impl Far<'_> {
    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn connect(&self) -> Result<transport::Channel, GrpcError> {
        let unreachable = |source| GrpcError::Connect {
            who: self.who,
            address: self.address.to_owned(),
            source,
        };
        Endpoint::from_shared(self.address.to_owned())
            .map_err(unreachable)?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(self.ask)
            .keep_alive_timeout(self.silence)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(unreachable)
    }

    /// The near end of a session: what is sent goes to `to_far` (see [`outgoing`]), and `answer` is what the service
    /// said when it was called.
    ///
    /// # Errors
    /// The service would not have the session.
    pub fn session<I, S, R>(
        &self,
        to_far: mpsc::UnboundedSender<S>,
        answer: Result<Response<Streaming<I>>, Status>,
        read: fn(I) -> Result<R, WireError>,
    ) -> Result<Memory<S, R>, GrpcError>
    where
        I: Send + 'static,
        R: Send + 'static,
    {
        let who = self.who;
        let answer = answer.map_err(|status| GrpcError::Refused {
            who,
            address: self.address.to_owned(),
            message: status.message().to_owned(),
        })?;
        let (taken, from_far) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            if let Some(error) = take_in(answer.into_inner(), read, taken).await {
                tracing::warn!(%error, "the {who} at the other end sent a message that makes no sense");
            }
        });
        Ok(Memory::new(to_far, from_far))
    }
}

/// Where messages go, and how a service is called with them.
pub fn outgoing<S, O>(
    write: fn(&S) -> O,
) -> (mpsc::UnboundedSender<S>, impl Stream<Item = O> + use<S, O>) {
    let (to_far, messages) = mpsc::unbounded_channel();
    let messages = UnboundedReceiverStream::new(messages).map(move |m| write(&m));
    (to_far, messages)
}

/// Hands on what comes in. Ends with the session, when nobody takes it any more, or with a message that makes no
/// sense; then that is returned.
async fn take_in<I, R>(
    mut incoming: Streaming<I>,
    read: fn(I) -> Result<R, WireError>,
    taken: mpsc::UnboundedSender<R>,
) -> Option<WireError> {
    loop {
        let message = tokio::select! {
            message = incoming.next() => message,
            () = taken.closed() => None,
        };
        match message? {
            Ok(message) => match read(message) {
                Ok(message) => taken.send(message).ok()?,
                Err(error) => return Some(error),
            },
            Err(status) => {
                tracing::debug!(
                    message = status.message(),
                    "the other end ended the session"
                );
                return None;
            }
        }
    }
}
