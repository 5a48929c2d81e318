//! The server's leg from its SYN to the moment when the switch takes over.

use super::*;

impl Connection {
    /// The client may come in: the server gets a SYN with the client's own number (A3.6). From here on nothing
    /// new is acknowledged.
    pub(super) fn connect(&mut self, cx: &mut Context<'_>) {
        self.phase = Phase::Connecting;
        self.until = cx.now + Duration::from_millis(cx.plan.connect_ms);
        self.client.forget_islands();
        self.call(cx);
    }

    /// The SYN: what the client offered, without what the gate cannot carry on (A3.7). Its window is the
    /// client's; that of a SYN is never scaled (RFC 7323, section 2.2).
    fn call(&mut self, cx: &mut Context<'_>) {
        let mss = if self.flow.src.is_ipv4() {
            cx.plan.mss_v4
        } else {
            cx.plan.mss_v6
        };
        let words = self.server.syn(cx.now, self.client.window().min(65_535));
        let options = Options {
            mss: Some(self.offered.mss.min(mss)),
            window_scale: self.offered.scale.filter(|_| self.scaled()),
        };
        self.to_server_with(cx, segment(&self.flow, words, 0, options));
    }

    /// The SYN again (RFC 6298, section 5).
    pub(super) fn call_again(&mut self, cx: &mut Context<'_>) -> Fate {
        if self.server.timer().is_some_and(|at| at <= cx.now) {
            self.call(cx);
        }
        Fate::Alive
    }

    /// A segment of a server that has been sent a SYN (section 3.10.7.3).
    pub(super) fn server_answers(
        &mut self,
        cx: &mut Context<'_>,
        question: Question,
        s: &Segment,
    ) -> Fate {
        let acknowledges = s.flags & ACK != 0 && s.ack == self.isn.wrapping_add(1);
        if s.flags & ACK != 0 && !acknowledges {
            // An older connection of this tuple; the server is brought to give it up.
            cx.answer(question, Decision::Consume);
            if let Some(refusal) = s.refusal() {
                self.to_server_with(cx, refusal);
            }
            return Fate::Alive;
        }
        match (s.flags & RST != 0, s.flags & SYN != 0) {
            (true, _) if acknowledges => {
                cx.answer(question, Decision::Consume);
                cx.counts.add("server refused");
                return self.reset(cx, true, false);
            }
            (true, _) | (false, false) => {
                cx.answer(question, Decision::Consume);
                return Fate::Alive;
            }
            (false, true) if !acknowledges => {
                // Both ends open at once (section 3.5, figure 8): the server's own connection is not the gate's
                // to complete.
                cx.answer(question, Decision::Consume);
                cx.counts.add("simultaneous open");
                return self.reset(cx, true, true);
            }
            (false, true) => {}
        }
        self.server_isn = s.seq;
        let mss = s
            .options
            .mss
            .unwrap_or(if self.flow.src.is_ipv4() { 536 } else { 1220 });
        self.server_scale = s.options.window_scale.filter(|_| self.scaled());
        self.server.syn_acknowledged(cx.now);
        self.server.set_mss(mss.min(self.announced.mss));
        let shift = self.server_scale.unwrap_or(0);
        (self.server).opened(s.seq.wrapping_add(1), u32::from(s.window), shift);
        cx.counts.add("opened");
        self.phase = Phase::Draining;
        self.until = cx.now + Duration::from_millis(cx.plan.hand_over_ms);
        let words = self.server.ack(self.server_room(cx));
        self.to_server(cx, words);
        if mss < self.announced.mss {
            // The client may send more at once than this server takes.
            cx.counts.add("smaller segments");
            cx.answer(question, Decision::Consume);
            self.stay(cx);
            return Fate::Alive;
        }
        if self.is_drained() {
            self.hand_over(cx, question, Decision::Consume);
            return Fate::Alive;
        }
        cx.answer(question, Decision::Consume);
        self.relay(cx, None)
    }

    /// What the server says of itself in its SYN-ACK.
    #[must_use]
    pub fn server_said(s: &Segment, v4: bool) -> Announced {
        Announced {
            mss: s.options.mss.unwrap_or(if v4 { 536 } else { 1220 }),
            scale: s.options.window_scale,
        }
    }

    /// Whether every byte that one leg has acknowledged is acknowledged on the other, both ways (A3.11).
    pub(super) fn is_drained(&self) -> bool {
        let to_server = self.server.is_quiet() && self.server.una() == self.client.rcv();
        let to_client = self.client.is_quiet()
            && self.client.una().wrapping_sub(self.cookie)
                == self.server.rcv().wrapping_sub(self.server_isn);
        to_server && to_client
    }

    /// The switch is told what makes one connection of the two.
    #[must_use]
    pub fn deltas(&self) -> Deltas {
        let delta = self.cookie.wrapping_sub(self.server_isn);
        let announced = self.announced.scale.filter(|_| self.scaled());
        let shift = |n: u8| i8::try_from(n).unwrap_or(0);
        let (forward, reply) = match (announced, self.server_scale) {
            // The client reads the server's windows by the scale that it was told.
            (Some(told), Some(own)) => (0, shift(own) - shift(told)),
            // The server does not scale: it reads the client's windows as they are.
            (Some(told), None) => (shift(self.offered.scale.unwrap_or(0)), -shift(told)),
            (None, _) => (0, 0),
        };
        Deltas {
            forward: Adjust {
                sequence: 0,
                acknowledgement: delta.wrapping_neg(),
                window_shift: forward,
            },
            reply: Adjust {
                sequence: delta,
                acknowledgement: 0,
                window_shift: reply,
            },
        }
    }

    pub(super) fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        question: Question,
        decision: Decision,
    ) {
        self.phase = Phase::HandedOver;
        self.until = cx.now + GRACE + cx.word;
        self.was_handed = true;
        self.client.forget_islands();
        self.server.forget_islands();
        let mut held = std::mem::take(&mut self.held);
        held.retain(|h| *h != question);
        cx.counts.add("switched over");
        cx.steps.push(Step::HandOver {
            decided: Box::new(crate::host::decided(self.flow, &self.deltas())),
            last: (question, decision),
            held,
        });
    }

    /// The agent has not taken it: what it held of it is gone, and comes again.
    pub fn denied(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::HandedOver {
            cx.counts.add("denied");
            self.stay(cx);
        }
    }

    /// It goes through the manager until its end.
    pub(super) fn stay(&mut self, cx: &mut Context<'_>) {
        self.phase = Phase::Proxied;
        self.heard = [cx.now; 2];
        self.probed = [false; 2];
        self.let_go(cx);
    }
}
