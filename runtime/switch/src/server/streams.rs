//! The ways to the controllers: one queue a stream, which never waits. Packets are dropped when a
//! controller falls behind; what it must hear (arbitration, errors) is not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::{Stream, StreamExt};
use signalbox_p4runtime::{
    RpcError,
    proto::p4::v1::{StreamMessageResponse, stream_message_response::Update},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

type Item = Result<StreamMessageResponse, RpcError>;

/// The switch's end of one stream.
#[derive(Debug)]
pub(super) struct Outbox {
    sender: mpsc::UnboundedSender<Item>,
    /// Packets, digests and notices that wait.
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// A queue of which `limit` droppable messages may wait, and the controller's end of it.
pub(super) fn queue(limit: usize) -> (Outbox, impl Stream<Item = Item> + Send + 'static) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&waiting);
    let stream = UnboundedReceiverStream::new(receiver).inspect(move |item: &Item| {
        if droppable(item) {
            counted.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let outbox = Outbox {
        sender,
        waiting,
        limit,
    };
    (outbox, stream)
}

fn droppable(item: &Item) -> bool {
    matches!(
        item,
        Ok(StreamMessageResponse {
            update: Some(
                Update::Packet(_) | Update::Digest(_) | Update::IdleTimeoutNotification(_)
            ),
        })
    )
}

impl Outbox {
    /// Sends; false when the message was dropped or the controller is gone.
    pub fn send(&self, update: Update) -> bool {
        let item = Ok(StreamMessageResponse {
            update: Some(update),
        });
        if droppable(&item) {
            if self.waiting.load(Ordering::Relaxed) >= self.limit {
                return false;
            }
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.sender.send(item).is_ok()
    }

    /// Ends the stream with an error.
    pub fn fail(self, error: RpcError) {
        // A controller that has gone does not mind.
        let _ = self.sender.send(Err(error));
    }
}
