//! Packets that arrive together go through ingress side by side: each until it would wait for the memory of a
//! large table, which is fetched while the others go on. From the end of ingress on they go one
//! after the other, in the order of their arrival.
//!
//! No program can tell: those that could are taken packet by packet ([`crate::code::program::Program::forgets`]).

use super::machine::{Machine, Registers, new_words};
use crate::code::layout::Words;
use crate::table::Ahead;
use crate::trace::Silent;

/// Packets side by side. More wait for less, but no longer fit in the cache that is nearest.
pub(crate) const LANES: usize = 8;

/// A packet on its way through ingress.
#[derive(Debug)]
pub(crate) struct Lane {
    words: Box<Words>,
    ahead: Ahead,
    regs: Registers,
    /// The table that it waits for.
    stop: Option<u32>,
}

impl Lane {
    /// With the words that a program begins with.
    pub(crate) fn new(words: &[u64], ahead: &Ahead) -> Self {
        let mut own = new_words();
        for (word, value) in own.iter_mut().zip(words) {
            *word = *value;
        }
        Lane {
            words: own,
            ahead: ahead.clone(),
            regs: Registers::new(0, 0),
            stop: None,
        }
    }
}

impl Machine<'_, Silent> {
    /// Takes packets through the switch, at most one a lane, with the ports that they have arrived at.
    pub(crate) fn burst(&mut self, lanes: &mut [Lane], packets: &[(u16, &[u8])]) {
        let program = self.program;
        let passes = self.passes;
        let mut payloads = [&[][..]; LANES];
        let Some(lanes) = lanes.get_mut(..packets.len()) else {
            return;
        };
        for ((lane, (port, packet)), payload) in lanes.iter_mut().zip(packets).zip(&mut payloads) {
            let length = packet.len() as u64;
            lane.regs = Registers::new(length, length);
            self.within(lane, |machine, _| {
                machine.scratch.ahead.next_step();
                machine.arrive(*port, packet);
                *payload = machine.admit(packet);
                machine.walk::<true>(program.ingress)
            });
        }
        let mut waiting = true;
        while waiting {
            waiting = false;
            for lane in lanes.iter_mut().filter(|lane| lane.stop.is_some()) {
                lane.ahead.fetch_records(&self.state.tables);
            }
            for lane in lanes.iter_mut().filter(|lane| lane.stop.is_some()) {
                lane.ahead.settle(&self.state.tables);
                self.within(lane, |machine, stop| machine.walk_on(stop?));
                waiting |= lane.stop.is_some();
            }
        }
        for ((lane, (port, packet)), payload) in lanes.iter_mut().zip(packets).zip(payloads) {
            self.within(lane, |machine, _| {
                machine.passes = passes;
                machine.leave_ingress(*port, packet, payload, packet.len() as u64);
                machine.later();
                None
            });
        }
    }

    /// Goes on with a packet, from the table that it stopped at to the next one.
    fn within(
        &mut self,
        lane: &mut Lane,
        work: impl FnOnce(&mut Self, Option<u32>) -> Option<u32>,
    ) {
        std::mem::swap(&mut self.scratch.words, &mut lane.words);
        std::mem::swap(&mut self.scratch.ahead, &mut lane.ahead);
        self.regs = lane.regs;
        lane.stop = work(self, lane.stop);
        lane.regs = self.regs;
        std::mem::swap(&mut self.scratch.words, &mut lane.words);
        std::mem::swap(&mut self.scratch.ahead, &mut lane.ahead);
    }
}
