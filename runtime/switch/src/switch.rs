//! The running switch.

use crate::control::*;
use crate::*;

/// A compiled pipeline, not yet running: what [`Pipeline::parse`] makes of a bmv2 JSON.
#[derive(Debug)]
pub struct Pipeline {
    schema: Schema,
}

impl Pipeline {
    /// Compiles a bmv2 JSON (format version 2.x, as p4c writes it). It may run on any thread.
    pub fn parse(json: &str) -> Result<Self, LoadError> {
        let _ = json;
        Err(LoadError::Unsupported {
            at: String::new(),
            what: "loading".into(),
        })
    }

    /// What it offers to the control plane.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// A switch: a pipeline, its state, and the step that takes a packet through it.
#[derive(Debug)]
pub struct Switch {
    config: Config,
    schema: Schema,
    drops: Drops,
}

type Result<T, E = ControlError> = std::result::Result<T, E>;
const STUB: ControlError = ControlError::NoPipeline;

#[allow(unused_variables, missing_docs)]
impl Switch {
    /// A switch without pipeline: it drops everything.
    pub fn new(config: Config) -> Self {
        Switch {
            config,
            schema: Schema::default(),
            drops: Drops::default(),
        }
    }
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Parses and swaps. On an error the old pipeline and its state stay.
    pub fn load(&mut self, json: &str) -> Result<(), LoadError> {
        self.swap(Pipeline::parse(json)?);
        Ok(())
    }
    /// Runs `pipeline` from now on. All state (entries, counters, groups, sessions …) is new.
    pub fn swap(&mut self, pipeline: Pipeline) {
        self.schema = pipeline.schema;
    }
    pub fn is_loaded(&self) -> bool {
        false
    }
    /// What the loaded pipeline offers; empty without one.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
    /// Takes one packet through the pipeline and appends what comes out. Time never goes back.
    pub fn step(&mut self, now: Micros, port: u16, packet: &[u8], out: &mut Output) {}
    /// As [`Switch::step`], with the length that counters, meters and `packet_length` see: for a
    /// packet-out this is its length without the packet-out header.
    pub fn step_counted(
        &mut self,
        now: Micros,
        port: u16,
        packet: &[u8],
        counted_length: u32,
        out: &mut Output,
    ) {
    }
    /// As [`Switch::step_counted`] (`None`: the packet's own length), and tells what happened.
    pub fn step_traced(
        &mut self,
        now: Micros,
        port: u16,
        packet: &[u8],
        counted_length: Option<u32>,
        out: &mut Output,
    ) -> trace::Trace {
        trace::Trace::default()
    }
    /// Drops and parser errors since the start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }
    /// Appends a notice for every entry idle for longer than its timeout.
    pub fn idle_sweep(&mut self, now: Micros, notices: &mut Vec<IdleNotice>) {}

    // Tables. `now` starts the idle timer.
    pub fn table_insert(
        &mut self,
        now: Micros,
        table: TableId,
        entry: Entry,
    ) -> Result<EntryHandle> {
        Err(STUB)
    }
    /// Replaces action, idle timeout and metadata; keeps counters, restarts the idle timer.
    pub fn table_modify(
        &mut self,
        now: Micros,
        table: TableId,
        entry: EntryHandle,
        action: EntryAction,
        idle_timeout: Micros,
        metadata: Vec<u8>,
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn table_delete(&mut self, table: TableId, entry: EntryHandle) -> Result<()> {
        Err(STUB)
    }
    /// The entry of exactly this key and priority.
    pub fn table_find(&self, table: TableId, key: &[Match], priority: i32) -> Result<EntryHandle> {
        Err(STUB)
    }
    pub fn table_get(&self, table: TableId, entry: EntryHandle) -> Result<EntryView> {
        Err(STUB)
    }
    /// All entries, in order of insertion as far as deletions left it.
    pub fn table_entries(&self, table: TableId) -> Result<Vec<EntryHandle>> {
        Err(STUB)
    }
    pub fn table_len(&self, table: TableId) -> Result<usize> {
        Err(STUB)
    }
    pub fn table_default(&self, table: TableId) -> Result<Option<EntryAction>> {
        Err(STUB)
    }
    /// `None` goes back to the program's own default.
    pub fn table_set_default(&mut self, table: TableId, action: Option<EntryAction>) -> Result<()> {
        Err(STUB)
    }
    pub fn entry_counter_set(
        &mut self,
        table: TableId,
        entry: EntryHandle,
        value: CounterValue,
    ) -> Result<()> {
        Err(STUB)
    }
    /// Misses that ran the default action, if the table has a direct counter.
    pub fn default_counter(&self, table: TableId) -> Result<CounterValue> {
        Err(STUB)
    }
    pub fn default_counter_set(&mut self, table: TableId, value: CounterValue) -> Result<()> {
        Err(STUB)
    }
    /// `None` takes the rates away: every packet is green.
    pub fn entry_meter_set(
        &mut self,
        table: TableId,
        entry: EntryHandle,
        rates: Option<[MeterRate; 2]>,
    ) -> Result<()> {
        Err(STUB)
    }

    // Indirect counters, meters, registers.
    pub fn counter_read(&self, counter: CounterId, index: usize) -> Result<CounterValue> {
        Err(STUB)
    }
    pub fn counter_write(
        &mut self,
        counter: CounterId,
        index: usize,
        value: CounterValue,
    ) -> Result<()> {
        Err(STUB)
    }
    /// Zeroes the whole array; a direct one in all entries.
    pub fn counter_reset(&mut self, counter: CounterId) -> Result<()> {
        Err(STUB)
    }
    pub fn meter_config(&self, meter: MeterId, index: usize) -> Result<Option<[MeterRate; 2]>> {
        Err(STUB)
    }
    pub fn meter_set(
        &mut self,
        meter: MeterId,
        index: usize,
        rates: Option<[MeterRate; 2]>,
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn register_read(&self, register: RegisterId, index: usize) -> Result<Bits> {
        Err(STUB)
    }
    pub fn register_write(
        &mut self,
        register: RegisterId,
        index: usize,
        value: Bits,
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn register_reset(&mut self, register: RegisterId) -> Result<()> {
        Err(STUB)
    }

    // Action profiles.
    pub fn member_create(
        &mut self,
        profile: ActionProfileId,
        id: MemberId,
        action: ActionCall,
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn member_modify(
        &mut self,
        profile: ActionProfileId,
        id: MemberId,
        action: ActionCall,
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn member_delete(&mut self, profile: ActionProfileId, id: MemberId) -> Result<()> {
        Err(STUB)
    }
    pub fn members(&self, profile: ActionProfileId) -> Result<Vec<(MemberId, ActionCall)>> {
        Err(STUB)
    }
    /// The members with their weights; a member of weight n is chosen n times as often.
    pub fn group_create(
        &mut self,
        profile: ActionProfileId,
        id: GroupId,
        members: &[(MemberId, u32)],
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn group_modify(
        &mut self,
        profile: ActionProfileId,
        id: GroupId,
        members: &[(MemberId, u32)],
    ) -> Result<()> {
        Err(STUB)
    }
    pub fn group_delete(&mut self, profile: ActionProfileId, id: GroupId) -> Result<()> {
        Err(STUB)
    }
    pub fn groups(&self, profile: ActionProfileId) -> Result<Vec<(GroupId, Vec<(MemberId, u32)>)>> {
        Err(STUB)
    }

    // Parser value sets.
    pub fn value_set_insert(&mut self, set: ValueSetId, member: ValueSetMember) -> Result<()> {
        Err(STUB)
    }
    pub fn value_set_delete(&mut self, set: ValueSetId, member: &ValueSetMember) -> Result<()> {
        Err(STUB)
    }
    pub fn value_set_members(&self, set: ValueSetId) -> Result<Vec<ValueSetMember>> {
        Err(STUB)
    }

    // Packet replication. These need no pipeline; `load` and `swap` empty them.
    pub fn multicast_create(&mut self, group: u16, replicas: Vec<Replica>) -> Result<()> {
        Err(STUB)
    }
    pub fn multicast_modify(&mut self, group: u16, replicas: Vec<Replica>) -> Result<()> {
        Err(STUB)
    }
    pub fn multicast_delete(&mut self, group: u16) -> Result<()> {
        Err(STUB)
    }
    pub fn multicast_group(&self, group: u16) -> Option<&[Replica]> {
        None
    }
    /// In order of id.
    pub fn multicast_groups(&self) -> Vec<u16> {
        Vec::new()
    }
    pub fn clone_session_create(&mut self, id: u16, session: CloneSession) -> Result<()> {
        Err(STUB)
    }
    pub fn clone_session_modify(&mut self, id: u16, session: CloneSession) -> Result<()> {
        Err(STUB)
    }
    pub fn clone_session_delete(&mut self, id: u16) -> Result<()> {
        Err(STUB)
    }
    pub fn clone_session(&self, id: u16) -> Option<&CloneSession> {
        None
    }
    /// In order of id.
    pub fn clone_sessions(&self) -> Vec<u16> {
        Vec::new()
    }
}
