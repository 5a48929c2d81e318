//! Reports as IPFIX messages (RFC 7011): templates, data records, sequence numbers. Pure: the time is handed
//! in, datagrams come out.
//!
//! A report becomes one data record for each direction that it has. An observation domain is one agent under
//! one policy; the observation point in it is a service, by its place in the cascade. Over UDP a collector
//! may miss templates, so that they are sent again by time and by number of messages (RFC 7011, section 8.1).

use std::collections::BTreeMap;
use std::net::IpAddr;

use signalbox_agent::message::{CriterionReport, DirectionReport, Report, ReportCause};
use signalbox_manager::Reported;

use crate::Stamped;
use crate::time::Span;

/// Longest message. A packet of 512 bytes is what RFC 7011, section 10.3.3, wants while nobody knows the
/// path's MTU; 48 of them are IPv6 and UDP headers.
pub const MESSAGE_MAX: usize = 464;
/// Templates are sent again after so many milliseconds: the default of RFC 7011, section 8.4.
pub const TEMPLATES_EVERY_MS: u64 = 600_000;
/// And after so many messages of a domain.
pub const TEMPLATES_EVERY_MESSAGES: u32 = 1000;

/// RFC 7011, section 3.1.
const VERSION: u16 = 10;
const HEADER: usize = 16;
const SET_HEADER: usize = 4;
/// The set id of template sets (RFC 7011, section 3.3.2).
const TEMPLATE_SET: u16 = 2;

/// An information element's number in IANA's registry, and its length in bytes.
type Field = (u16, u16);

const FLOW_START_MILLISECONDS: Field = (152, 8);
const FLOW_END_MILLISECONDS: Field = (153, 8);
const FLOW_END_REASON: Field = (136, 1);
const FLOW_ID: Field = (148, 8);
const OBSERVATION_POINT_ID: Field = (138, 8);
const SELECTOR_ID: Field = (302, 8);
const PACKET_TOTAL_COUNT: Field = (86, 8);
const LAYER2_OCTET_TOTAL_COUNT: Field = (353, 8);
const PROTOCOL_IDENTIFIER: Field = (4, 1);
const TCP_CONTROL_BITS: Field = (6, 2);
const SOURCE_TRANSPORT_PORT: Field = (7, 2);
const DESTINATION_TRANSPORT_PORT: Field = (11, 2);
const SOURCE_IPV4_ADDRESS: Field = (8, 4);
const DESTINATION_IPV4_ADDRESS: Field = (12, 4);
const SOURCE_IPV6_ADDRESS: Field = (27, 16);
const DESTINATION_IPV6_ADDRESS: Field = (28, 16);
const POST_NAT_SOURCE_IPV4_ADDRESS: Field = (225, 4);
const POST_NAT_DESTINATION_IPV4_ADDRESS: Field = (226, 4);
const POST_NAPT_SOURCE_TRANSPORT_PORT: Field = (227, 2);
const POST_NAPT_DESTINATION_TRANSPORT_PORT: Field = (228, 2);
const POST_NAT_SOURCE_IPV6_ADDRESS: Field = (281, 16);
const POST_NAT_DESTINATION_IPV6_ADDRESS: Field = (282, 16);

/// What every flow's record begins with.
const FLOW: [Field; 11] = [
    FLOW_START_MILLISECONDS,
    FLOW_END_MILLISECONDS,
    FLOW_ID,
    OBSERVATION_POINT_ID,
    PACKET_TOTAL_COUNT,
    LAYER2_OCTET_TOTAL_COUNT,
    SOURCE_TRANSPORT_PORT,
    DESTINATION_TRANSPORT_PORT,
    PROTOCOL_IDENTIFIER,
    FLOW_END_REASON,
    TCP_CONTROL_BITS,
];

/// A template: its id, and its fields in order, in groups.
#[derive(Debug, Clone, Copy)]
struct Template {
    id: u16,
    fields: &'static [&'static [Field]],
}

const ADDRESSES_V4: &[Field] = &[SOURCE_IPV4_ADDRESS, DESTINATION_IPV4_ADDRESS];
const ADDRESSES_V6: &[Field] = &[SOURCE_IPV6_ADDRESS, DESTINATION_IPV6_ADDRESS];
const POST_NAT_V4: &[Field] = &[
    POST_NAPT_SOURCE_TRANSPORT_PORT,
    POST_NAPT_DESTINATION_TRANSPORT_PORT,
    POST_NAT_SOURCE_IPV4_ADDRESS,
    POST_NAT_DESTINATION_IPV4_ADDRESS,
];
const POST_NAT_V6: &[Field] = &[
    POST_NAPT_SOURCE_TRANSPORT_PORT,
    POST_NAPT_DESTINATION_TRANSPORT_PORT,
    POST_NAT_SOURCE_IPV6_ADDRESS,
    POST_NAT_DESTINATION_IPV6_ADDRESS,
];

const FLOW_V4: Template = Template {
    id: 256,
    fields: &[&FLOW, ADDRESSES_V4],
};
const FLOW_V6: Template = Template {
    id: 257,
    fields: &[&FLOW, ADDRESSES_V6],
};
const TRANSLATED_V4: Template = Template {
    id: 258,
    fields: &[&FLOW, ADDRESSES_V4, POST_NAT_V4],
};
const TRANSLATED_V6: Template = Template {
    id: 259,
    fields: &[&FLOW, ADDRESSES_V6, POST_NAT_V6],
};
const CRITERION: Template = Template {
    id: 260,
    fields: &[&[
        FLOW_START_MILLISECONDS,
        FLOW_END_MILLISECONDS,
        SELECTOR_ID,
        OBSERVATION_POINT_ID,
        PACKET_TOTAL_COUNT,
        LAYER2_OCTET_TOTAL_COUNT,
        FLOW_END_REASON,
    ]],
};
const TEMPLATES: [Template; 5] = [FLOW_V4, FLOW_V6, TRANSLATED_V4, TRANSLATED_V6, CRITERION];

/// Why a flow's record was made (IANA's registry of flowEndReason).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum EndReason {
    /// It was idle for longer than its lease.
    IdleTimeout = 1,
    /// It is reported while it goes on, or has lived as long as it may.
    ActiveTimeout = 2,
    /// Both FINs, or a RST.
    EndOfFlow = 3,
    /// Somebody deleted it.
    ForcedEnd = 4,
}

impl EndReason {
    fn of(report: &Report, closed: bool) -> Self {
        match report.cause {
            ReportCause::Period | ReportCause::HardLease => Self::ActiveTimeout,
            ReportCause::Closed => Self::EndOfFlow,
            // Its lease was that of a flow that has ended.
            ReportCause::Expired if closed => Self::EndOfFlow,
            ReportCause::Expired => Self::IdleTimeout,
            ReportCause::Deleted => Self::ForcedEnd,
        }
    }
}

/// The observation domain of an agent under a policy: a hash of both names (FNV-1a), never 0, which RFC 7011
/// keeps for messages of no domain.
#[must_use]
pub fn observation_domain(policy: &str, agent: &str) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in policy.bytes().chain([0]).chain(agent.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

/// A message, ready to be sent as one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The whole of it.
    pub bytes: Vec<u8>,
    /// Data records in it.
    pub records: u32,
}

/// One domain's state of a transport session.
#[derive(Debug, Default)]
struct Domain {
    /// Data records sent so far, modulo 2^32.
    sequence: u32,
    /// When templates were sent, and messages since then; `None` if they are due.
    templates: Option<(u64, u32)>,
}

/// Makes the messages of one transport session.
#[derive(Debug)]
pub struct Encoder {
    policy: String,
    domains: BTreeMap<u32, Domain>,
}

impl Encoder {
    /// A session that is about to begin.
    #[must_use]
    pub fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            domains: BTreeMap::new(),
        }
    }

    /// Makes templates due: the collector may have missed them.
    pub fn resend_templates(&mut self) {
        for domain in self.domains.values_mut() {
            domain.templates = None;
        }
    }

    /// The messages that carry these records, templates before them where they are due. `now_ms` is the time
    /// of the export, in milliseconds since 1970.
    pub fn encode<'a>(
        &mut self,
        now_ms: u64,
        records: impl IntoIterator<Item = &'a Stamped>,
    ) -> Vec<Message> {
        let mut of_domain: BTreeMap<u32, Vec<(u16, Vec<u8>)>> = BTreeMap::new();
        for stamped in records {
            let domain = observation_domain(&self.policy, &stamped.record.agent);
            let list = of_domain.entry(domain).or_default();
            data_records(stamped, list);
        }
        let mut messages = Vec::new();
        for (id, records) in of_domain {
            let domain = self.domains.entry(id).or_default();
            domain.encode(id, now_ms, &records, &mut messages);
        }
        messages
    }
}

impl Domain {
    fn encode(
        &mut self,
        id: u32,
        now_ms: u64,
        records: &[(u16, Vec<u8>)],
        messages: &mut Vec<Message>,
    ) {
        let mut draft = Draft::default();
        let due = self.templates.is_none_or(|(at, since)| {
            now_ms.saturating_sub(at) >= TEMPLATES_EVERY_MS || since >= TEMPLATES_EVERY_MESSAGES
        });
        if due {
            self.templates = Some((now_ms, 0));
            for template in TEMPLATES {
                let record = template_record(template);
                if !draft.has_room(TEMPLATE_SET, &record) {
                    messages.push(self.finish(id, now_ms, &mut draft));
                }
                draft.put(TEMPLATE_SET, &record);
            }
        }
        for (template, record) in records {
            if !draft.has_room(*template, record) {
                messages.push(self.finish(id, now_ms, &mut draft));
            }
            draft.put(*template, record);
            draft.records += 1;
        }
        if !draft.is_empty() {
            messages.push(self.finish(id, now_ms, &mut draft));
        }
    }

    /// Puts the header (RFC 7011, section 3.1) before what was gathered, which is then empty again.
    fn finish(&mut self, id: u32, now_ms: u64, draft: &mut Draft) -> Message {
        let Draft {
            mut sets,
            open,
            records,
        } = std::mem::take(draft);
        if let Some((set, body)) = open {
            put_set(&mut sets, set, &body);
        }
        let mut bytes = Vec::with_capacity(HEADER + sets.len());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&length(HEADER + sets.len()).to_be_bytes());
        // Seconds since 1970 in 32 bits: they last until 2106.
        let seconds = u32::try_from(now_ms / 1000).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&sets);
        self.sequence = self.sequence.wrapping_add(records);
        if let Some((_, since)) = &mut self.templates {
            *since += 1;
        }
        Message { bytes, records }
    }
}

/// A message in the making: sets that are complete, and one that still takes records.
#[derive(Debug, Default)]
struct Draft {
    sets: Vec<u8>,
    open: Option<(u16, Vec<u8>)>,
    /// Data records, templates not among them.
    records: u32,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.open.is_none()
    }

    fn has_room(&self, set: u16, record: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let (open, again) = match &self.open {
            Some((id, body)) if *id == set => (SET_HEADER + body.len(), 0),
            Some((_, body)) => (SET_HEADER + body.len(), SET_HEADER),
            None => (0, SET_HEADER),
        };
        HEADER + self.sets.len() + open + again + record.len() <= MESSAGE_MAX
    }

    fn put(&mut self, set: u16, record: &[u8]) {
        if let Some((id, body)) = self.open.take_if(|(id, _)| *id != set) {
            put_set(&mut self.sets, id, &body);
        }
        let (_, body) = self.open.get_or_insert((set, Vec::new()));
        body.extend_from_slice(record);
    }
}

/// A set (RFC 7011, section 3.3). It needs no padding: receivers align nothing.
fn put_set(out: &mut Vec<u8>, id: u16, body: &[u8]) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&length(SET_HEADER + body.len()).to_be_bytes());
    out.extend_from_slice(body);
}

/// Lengths are below [`MESSAGE_MAX`].
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// A template record (RFC 7011, section 3.4.1).
fn template_record(template: Template) -> Vec<u8> {
    let fields = || template.fields.iter().copied().flatten();
    let mut out = Vec::new();
    out.extend_from_slice(&template.id.to_be_bytes());
    out.extend_from_slice(&length(fields().count()).to_be_bytes());
    for (element, bytes) in fields() {
        out.extend_from_slice(&element.to_be_bytes());
        out.extend_from_slice(&bytes.to_be_bytes());
    }
    out
}

/// The data records of a report, each with its template's id.
fn data_records(stamped: &Stamped, out: &mut Vec<(u16, Vec<u8>)>) {
    match &stamped.record.of {
        Reported::Flow { report, closed } => {
            for direction in [&report.forward, &report.reply].into_iter().flatten() {
                out.push(flow_record(stamped, report, *closed, direction));
            }
        }
        Reported::Criterion(report) => {
            out.push((CRITERION.id, criterion_record(stamped, report)));
        }
    }
}

/// A record's bytes, field by field.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes, or sixteen in a template of the wider family.
    fn address(&mut self, address: IpAddr, wide: bool) {
        match address {
            IpAddr::V4(a) if !wide => self.0.extend_from_slice(&a.octets()),
            IpAddr::V4(a) => self.0.extend_from_slice(&a.to_ipv6_mapped().octets()),
            IpAddr::V6(a) => self.0.extend_from_slice(&a.octets()),
        }
    }
}

fn flow_record(
    stamped: &Stamped,
    report: &Report,
    closed: bool,
    direction: &DirectionReport,
) -> (u16, Vec<u8>) {
    let span = Span::of_flow(stamped, report);
    let tuple = direction.tuple;
    let mut out = Fields::default();
    out.u64(span.start_ms);
    out.u64(span.end_ms);
    out.u64(report.flow);
    out.u64(u64::from(stamped.record.stage));
    out.u64(direction.totals.packets);
    out.u64(direction.totals.bytes);
    out.u16(tuple.sport);
    out.u16(tuple.dport);
    out.u8(tuple.proto);
    out.u8(EndReason::of(report, closed) as u8);
    out.u16(u16::from(direction.tcp_flags));
    let to = direction.translated;
    // One template has one family.
    let wide = [Some(tuple), to]
        .into_iter()
        .flatten()
        .any(|t| t.src.is_ipv6() || t.dst.is_ipv6());
    out.address(tuple.src, wide);
    out.address(tuple.dst, wide);
    if let Some(to) = to {
        out.u16(to.sport);
        out.u16(to.dport);
        out.address(to.src, wide);
        out.address(to.dst, wide);
    }
    let template = match (wide, to.is_some()) {
        (false, false) => FLOW_V4,
        (true, false) => FLOW_V6,
        (false, true) => TRANSLATED_V4,
        (true, true) => TRANSLATED_V6,
    };
    (template.id, out.0)
}

fn criterion_record(stamped: &Stamped, report: &CriterionReport) -> Vec<u8> {
    let span = Span::of_criterion(stamped, report.age_ms);
    let reason = if report.last {
        EndReason::ForcedEnd
    } else {
        EndReason::ActiveTimeout
    };
    let mut out = Fields::default();
    out.u64(span.start_ms);
    out.u64(span.end_ms);
    out.u64(u64::from(report.id));
    out.u64(u64::from(stamped.record.stage));
    out.u64(report.totals.packets);
    out.u64(report.totals.bytes);
    out.u8(reason as u8);
    out.0
}

#[cfg(test)]
mod tests;
