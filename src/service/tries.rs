//! What keeps a way to an agent or to another manager open: one try after the other, with a growing pause, and a
//! problem that stays the same is said once.

use std::time::{Duration, Instant};

use signalbox_agent::grpc::stream::GrpcError;
use tokio::time::error::Elapsed;

/// Before the second try; it doubles, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What has lasted so long was good: the next try comes at once.
const GOOD: Duration = Duration::from_secs(1);

/// How long the other end may take to answer a new connection.
pub(super) const DIAL: Duration = Duration::from_secs(5);

/// What an end with another plan is told of as.
pub(super) const OTHER_PLAN: &str = "it works from another plan; `signalbox apply POLICY` with the control sockets of both brings them to one";

/// What became of a connection to an agent or a manager, as `who` says, that was waited for as long as [`DIAL`].
///
/// # Errors
/// One line: nobody answers, or will have it.
pub(super) fn dialled<T>(
    who: &str,
    connection: Result<Result<T, GrpcError>, Elapsed>,
) -> Result<T, String> {
    match connection {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(GrpcError::Connect { .. })) => Err(format!("no {who} answers there")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DIAL.as_secs())),
    }
}

/// The tries to keep a way open.
pub(super) struct Tries {
    since: Instant,
    pause: Duration,
    longest_pause: Duration,
    said: String,
}

impl Tries {
    pub(super) fn new(longest_pause: Duration) -> Self {
        Self {
            since: Instant::now(),
            pause: FIRST_PAUSE,
            longest_pause,
            said: String::new(),
        }
    }

    /// One begins.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
    }

    /// It has ended.
    pub(super) fn end(&mut self) {
        if self.since.elapsed() >= GOOD {
            self.pause = FIRST_PAUSE;
            self.said.clear();
        }
    }

    /// Whether a problem is to be said: the last one that was is another.
    pub(super) fn is_news(&mut self, problem: &str) -> bool {
        let is_news = self.said != problem;
        problem.clone_into(&mut self.said);
        is_news
    }

    /// Waits until the next one, and longer the next time.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest_pause);
    }

    /// Something has changed: the next pauses are short again.
    pub(super) fn hasten(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}
