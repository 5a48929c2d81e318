//! What one packet met on its way: parser states, lookups, actions, drops, deparser.

/// The way of one packet, and of every packet made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Trace {
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// One thing that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Something in words.
    Note {
        /// The words.
        text: String,
    },
}
