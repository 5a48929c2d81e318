//! What passes between the legs: data with flow control, FINs, windows. In a connection that drains, only
//! what was taken before.

use super::*;

impl Connection {
    /// Bytes that the client may send: what is free of the buffer towards the server.
    pub(super) fn client_room(&self, cx: &Context<'_>) -> u32 {
        let shift = self.announced.scale.filter(|_| self.scaled());
        room(cx.plan.buffer, self.server.pending(), shift)
    }

    /// Bytes that the server may send.
    pub(super) fn server_room(&self, cx: &Context<'_>) -> u32 {
        let shift = self.server_scale.and(self.offered.scale);
        let free = room(cx.plan.buffer, self.client.pending(), shift);
        if self.phase == Phase::Draining {
            // It will be the client's own window, unless the connection stays here.
            return free.min(self.client.window());
        }
        free
    }

    /// Sends what can be sent, and acknowledges; `answer` says whose segment needs an answer in any case.
    pub(super) fn relay(&mut self, cx: &mut Context<'_>, answer: Option<Part>) -> Fate {
        if self.client.has_ended() {
            self.server.finish();
        }
        if self.server.has_ended() {
            self.client.finish();
        }
        let (client_room, server_room) = (self.client_room(cx), self.server_room(cx));
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        self.client.speak(cx.now, client_room, &mut to_client);
        if self.phase != Phase::Connecting {
            self.server.speak(cx.now, server_room, &mut to_server);
        }
        // Data carry the acknowledgement; without any it goes alone, and so does a window that has opened.
        let opens =
            |leg: &Leg, room| self.phase == Phase::Proxied && leg.should_open(room, cx.plan.buffer);
        let ack_client = answer == Some(Part::Forward) || opens(&self.client, client_room);
        let ack_server = answer == Some(Part::Reply) || opens(&self.server, server_room);
        if ack_client && to_client.is_empty() {
            to_client.push(self.client.ack(client_room));
        }
        if ack_server && to_server.is_empty() && self.phase != Phase::Connecting {
            to_server.push(self.server.ack(server_room));
        }
        to_client.into_iter().for_each(|w| self.to_client(cx, w));
        to_server.into_iter().for_each(|w| self.to_server(cx, w));
        if self.client.is_closed() && self.server.is_closed() {
            cx.counts.add("closed");
            return Fate::Over;
        }
        Fate::Alive
    }
}

/// Ends that are silent. An end that asks whether the other is there is answered here, so that the other
/// must be asked, too (RFC 9293, section 3.8.4).
impl Connection {
    pub(super) fn note(&mut self, now: Duration, end: usize) {
        if let Some(heard) = self.heard.get_mut(end) {
            *heard = now;
        }
        if let Some(probed) = self.probed.get_mut(end) {
            *probed = false;
        }
    }

    /// When the connection has been idle for too long: at either end.
    pub(super) fn idle(&self, plan: &GatePlan) -> Duration {
        let [client, server] = self.heard;
        client.min(server) + Duration::from_millis(plan.proxied_idle_ms)
    }

    /// The end that has been silent for longer, and when it is asked; only if the other has spoken since.
    fn silent(&self, plan: &GatePlan) -> Option<(Part, Duration)> {
        let ([client, server], [client_probed, server_probed]) = (self.heard, self.probed);
        let half = Duration::from_millis(plan.proxied_idle_ms / 2);
        match client.cmp(&server) {
            std::cmp::Ordering::Less if !client_probed => Some((Part::Forward, client + half)),
            std::cmp::Ordering::Greater if !server_probed => Some((Part::Reply, server + half)),
            _ => None,
        }
    }

    pub(super) fn probe_due(&self, plan: &GatePlan) -> Option<Duration> {
        self.silent(plan).map(|(_, at)| at)
    }

    pub(super) fn probe(&mut self, cx: &mut Context<'_>) {
        match self.silent(cx.plan).filter(|(_, at)| *at <= cx.now) {
            Some((Part::Forward, _)) => {
                let [_, server] = self.probed;
                self.probed = [true, server];
                let words = self.client.probe(self.client_room(cx));
                self.to_client(cx, words);
            }
            Some((Part::Reply, _)) => {
                let [client, _] = self.probed;
                self.probed = [client, true];
                let words = self.server.probe(self.server_room(cx));
                self.to_server(cx, words);
            }
            None => {}
        }
    }
}

/// What is free of a buffer, as far as a window of that scale can say it.
fn room(buffer: u32, pending: usize, shift: Option<u8>) -> u32 {
    let free = buffer.saturating_sub(u32::try_from(pending).unwrap_or(u32::MAX));
    let shift = shift.unwrap_or(0);
    free.min(65_535 << shift) >> shift << shift
}
