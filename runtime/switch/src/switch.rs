//! The switch: a pipeline, its state, and the step that takes a packet through it.

use crate::code::program::Program;
use crate::control::EntryHandle;
use crate::exec::burst::{LANES, Lane};
use crate::exec::machine::{Machine, Registers, Scratch};
use crate::exec::state::State;
use crate::load;
use crate::table::Ahead;
use crate::trace::{Event, Silent, Trace, Tracer};
use crate::{Config, DropReason, Drops, IdleNotice, LoadError, Micros, Output, Schema, TableId};

/// The longest packet a switch takes, in bytes.
const MAX_PACKET: usize = 65_535;

/// A compiled pipeline, not yet running: what [`Pipeline::parse`] makes of a bmv2 JSON.
#[derive(Debug)]
pub struct Pipeline {
    program: Program,
}

impl Pipeline {
    /// Compiles a bmv2 JSON (format version 2.x, as p4c writes it). It may run on any thread.
    ///
    /// # Errors
    /// [`LoadError`] names the place in the JSON and what should stand there, or what this switch
    /// does not do.
    pub fn parse(json: &str) -> Result<Self, LoadError> {
        let program = load::load(json)?;
        let pipeline = Pipeline { program };
        // Entries of the program are tried on a switch of its own, so that a swap cannot fail.
        Switch::new(Config::default()).start(&pipeline.program)?;
        Ok(pipeline)
    }

    /// What it offers to the control plane.
    pub fn schema(&self) -> &Schema {
        &self.program.schema
    }
}

/// A switch: a pipeline, its state, and the step that takes a packet through it.
///
/// It has no thread, clock or lock: whoever owns it says what time it is. A step allocates nothing
/// once its buffers have grown, except for digests, values of more than 64 bits in unusual places
/// and traces.
#[derive(Debug)]
pub struct Switch {
    pub(crate) config: Config,
    pub(crate) program: Option<Box<Program>>,
    pub(crate) state: State,
    scratch: Scratch,
    /// For packets side by side; none where the program would tell.
    lanes: Vec<Lane>,
    drops: Drops,
    empty: Schema,
    pub(crate) last_sweep: Option<Micros>,
}

impl Switch {
    /// A switch without pipeline: it drops everything.
    pub fn new(config: Config) -> Self {
        Switch {
            config,
            program: None,
            state: State::default(),
            scratch: Scratch::default(),
            lanes: Vec::new(),
            drops: Drops::default(),
            empty: Schema::default(),
            last_sweep: None,
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Parses and swaps.
    ///
    /// # Errors
    /// As [`Pipeline::parse`]; the old pipeline and its state stay.
    pub fn load(&mut self, json: &str) -> Result<(), LoadError> {
        self.swap(Pipeline::parse(json)?);
        Ok(())
    }

    /// Runs `pipeline` from now on. All state is new: entries, counters, groups, sessions.
    pub fn swap(&mut self, pipeline: Pipeline) {
        // What can fail was tried by `Pipeline::parse`.
        let _ = self.start(&pipeline.program);
        self.program = Some(Box::new(pipeline.program));
    }

    fn start(&mut self, program: &Program) -> Result<(), LoadError> {
        let mut state = State::new(program, &self.config);
        for (table, (compiled, schema)) in state
            .tables
            .iter_mut()
            .zip(program.tables.iter().zip(&program.schema.tables))
        {
            crate::control::start_table(program, compiled, schema, self.config.quirks, table)?;
        }
        self.state = state;
        for (word, value) in self.scratch.words.iter_mut().zip(&program.words) {
            *word = *value;
        }
        if let Some(word) = self.scratch.words.get_mut(program.drop_slot as usize) {
            *word = u64::from(self.config.drop_port);
        }
        self.scratch.ahead = Ahead::new(&program.tables);
        let lanes = if program.forgets() { LANES } else { 0 };
        let words = (self.scratch.words.get(..program.words.len())).unwrap_or_default();
        self.lanes = (0..lanes)
            .map(|_| Lane::new(words, &self.scratch.ahead))
            .collect();
        self.last_sweep = None;
        Ok(())
    }

    /// Whether a pipeline is loaded.
    pub fn is_loaded(&self) -> bool {
        self.program.is_some()
    }

    /// What the loaded pipeline offers; empty without one.
    pub fn schema(&self) -> &Schema {
        self.program
            .as_ref()
            .map_or(&self.empty, |program| &program.schema)
    }

    /// Takes one packet through the pipeline and appends what comes out. Time never goes back.
    pub fn step(&mut self, now: Micros, port: u16, packet: &[u8], out: &mut Output) {
        self.step_with(now, port, packet, None, out, &mut Silent);
    }

    /// As [`Switch::step`], with the length that counters, meters and ingress's `packet_length` see:
    /// for a packet-out this is its length without the packet-out header, unless
    /// [`crate::Quirks::count_packet_out_header`] is on.
    pub fn step_counted(
        &mut self,
        now: Micros,
        port: u16,
        packet: &[u8],
        counted_length: u32,
        out: &mut Output,
    ) {
        self.step_with(now, port, packet, Some(counted_length), out, &mut Silent);
    }

    /// As [`Switch::step_counted`] (`None`: the packet's own length), and tells what happened.
    pub fn step_traced(
        &mut self,
        now: Micros,
        port: u16,
        packet: &[u8],
        counted_length: Option<u32>,
        out: &mut Output,
    ) -> Trace {
        let mut trace = Trace::default();
        self.step_with(now, port, packet, counted_length, out, &mut trace);
        trace
    }

    fn step_with<T: Tracer>(
        &mut self,
        now: Micros,
        port: u16,
        packet: &[u8],
        counted_length: Option<u32>,
        out: &mut Output,
        tracer: &mut T,
    ) {
        let refused = match &self.program {
            None => Some(DropReason::NoPipeline),
            Some(_) if packet.len() > MAX_PACKET => Some(DropReason::TooLong),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            out.drops.count(reason);
            self.drops.count(reason);
            tracer.event(|| Event::Drop { reason });
            return;
        }
        let counted = match counted_length {
            Some(length) if !self.config.quirks.count_packet_out_header => length,
            _ => packet.len() as u32,
        };
        let regs = Registers::new(u64::from(counted), packet.len() as u64);
        self.scratch.ahead.next_step();
        if let Some((mut machine, _)) = self.machine(now, regs, out, tracer) {
            machine.packet(port, packet);
        }
        self.count();
    }

    /// What runs the loaded program, and its lanes.
    #[inline]
    fn machine<'s, T: Tracer>(
        &'s mut self,
        now: Micros,
        regs: Registers,
        out: &'s mut Output,
        tracer: &'s mut T,
    ) -> Option<(Machine<'s, T>, &'s mut [Lane])> {
        let machine = Machine {
            program: self.program.as_deref()?,
            state: &mut self.state,
            scratch: &mut self.scratch,
            out,
            total: &mut self.drops,
            tracer,
            regs,
            now,
            drop_port: u64::from(self.config.drop_port),
            priority_queues: u64::from(self.config.priority_queues),
            drop_high_priorities: self.config.quirks.drop_high_priorities,
            passes: self.config.max_passes,
        };
        Some((machine, &mut self.lanes))
    }

    /// Takes packets that have arrived together through the pipeline, each from a port, and appends what comes
    /// out: the same as by one [`Switch::step`] after the other, sooner if tables are large.
    pub fn burst<'p>(
        &mut self,
        now: Micros,
        packets: impl IntoIterator<Item = (u16, &'p [u8])>,
        out: &mut Output,
    ) {
        let mut packets = packets.into_iter();
        loop {
            let mut some = [(0, &[][..]); LANES];
            let mut count = 0;
            for (place, packet) in some.iter_mut().zip(&mut packets) {
                *place = packet;
                count += 1;
            }
            match some.get(..count) {
                None | Some([]) => return,
                Some(some) => self.side_by_side(now, some, out),
            }
        }
    }

    /// As [`Switch::burst`], with no more packets than there are lanes.
    fn side_by_side(&mut self, now: Micros, packets: &[(u16, &[u8])], out: &mut Output) {
        let long = packets.iter().any(|(_, packet)| packet.len() > MAX_PACKET);
        let alone = packets.len() < 2 || long || self.lanes.is_empty() || !self.is_loaded();
        if alone {
            for (port, packet) in packets {
                self.step(now, *port, packet, out);
            }
            return;
        }
        let regs = Registers::new(0, 0);
        if let Some((mut machine, lanes)) = self.machine(now, regs, out, &mut Silent) {
            machine.burst(lanes, packets);
        }
        self.count();
    }

    /// Indirect counters count what the last packets have told them to.
    fn count(&mut self) {
        for one in self.scratch.counts.drain(..) {
            let counter = self.state.counters.get_mut(one.counter.index());
            if let Some(cell) = counter.and_then(|cells| cells.get_mut(one.cell as usize)) {
                cell.packets += 1;
                cell.bytes += one.bytes;
            }
        }
    }

    /// Drops and parser errors since the start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Appends a notice for every entry that was idle for its timeout, and again after every further
    /// timeout until it is hit or modified (P4Runtime, "Table Idle Timeout Notification"); with
    /// [`crate::Quirks::idle_sweep_each_second`] at whole seconds only.
    pub fn idle_sweep(&mut self, now: Micros, notices: &mut Vec<IdleNotice>) {
        if self.config.quirks.idle_sweep_each_second {
            if self
                .last_sweep
                .is_some_and(|last| now.saturating_sub(last) < 1_000_000)
            {
                return;
            }
            self.last_sweep = Some(now);
        }
        for (index, table) in self.state.tables.iter_mut().enumerate() {
            table.sweep(now, |at, generation| {
                notices.push(IdleNotice {
                    table: TableId(index as u32),
                    entry: EntryHandle {
                        index: at,
                        generation,
                    },
                });
            });
        }
    }
}
