//! Digests: samples are gathered into lists, and a sample that was sent is not sent again until it
//! is acknowledged or its time is over. Pure: time is handed in.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashSet;
use signalbox_p4runtime::{
    Code,
    proto::p4::v1::{DigestEntry, DigestList, DigestListAck, P4Data, digest_entry::Config, update},
};

use super::{
    p4data,
    refusal::{Outcome, Refusal},
    state::Loaded,
    write::Target,
};
use crate::{Bits, Digest, Micros};

/// Samples of one list when the controller sets no limit.
const DEFAULT_LIST: usize = 1000;

/// Samples that wait for an acknowledgement at most; beyond it the oldest list is forgotten.
const MAX_UNACKNOWLEDGED: usize = 100_000;

type Sample = Vec<Bits>;

/// A digest that is switched on.
#[derive(Debug, Clone, Default)]
pub(super) struct Active {
    config: Config,
    buffer: Vec<Sample>,
    buffer_since: Micros,
    sent: VecDeque<(u64, Micros, Vec<Sample>)>,
    known: FxHashSet<Sample>,
    next_list: u64,
}

/// The digests that are switched on, by P4Info id.
pub(super) type Digests = BTreeMap<u32, Active>;

pub(super) fn write(t: &mut Target<'_>, kind: update::Type, entry: &DigestEntry) -> Outcome<()> {
    let id = entry.digest_id;
    let Some(info) = t.loaded.catalog.digests.get(id) else {
        return Err(Refusal::invalid(format!(
            "there is no digest with id {id:#010x}"
        )));
    };
    let place = format!("digest `{}`", info.alias);
    let digests = &mut t.loaded.notes.digests;
    if kind == update::Type::Delete {
        return match digests.remove(&id) {
            Some(_) => Ok(()),
            None => Err(Refusal::new(
                Code::NotFound,
                format!("{place}: it is not switched on"),
            )),
        };
    }
    let config = entry
        .config
        .ok_or_else(|| Refusal::invalid(format!("{place}: it has no config")))?;
    if config.max_timeout_ns < 0 || config.max_list_size < 0 || config.ack_timeout_ns < 0 {
        return Err(Refusal::invalid(format!("{place}: a limit is negative")));
    }
    match (kind, digests.get_mut(&id)) {
        (update::Type::Insert, Some(_)) => Err(Refusal::new(
            Code::AlreadyExists,
            format!("{place}: it is switched on already"),
        )),
        (update::Type::Insert, None) => {
            let active = Active {
                config,
                next_list: 1,
                ..Active::default()
            };
            digests.insert(id, active);
            Ok(())
        }
        (update::Type::Modify, Some(active)) => {
            active.config = config;
            Ok(())
        }
        (update::Type::Modify, None) => Err(Refusal::new(
            Code::NotFound,
            format!("{place}: it is not switched on"),
        )),
        _ => Err(Refusal::invalid(format!("{place}: the update has no type"))),
    }
}

pub(super) fn read(
    loaded: &Loaded,
    filter: &DigestEntry,
    mut give: impl FnMut(DigestEntry),
) -> Outcome<()> {
    if filter.digest_id != 0 && loaded.catalog.digests.get(filter.digest_id).is_none() {
        return Err(Refusal::invalid(format!(
            "there is no digest with id {:#010x}",
            filter.digest_id
        )));
    }
    for (id, active) in &loaded.notes.digests {
        if filter.digest_id == 0 || filter.digest_id == *id {
            give(DigestEntry {
                digest_id: *id,
                config: Some(active.config),
            });
        }
    }
    Ok(())
}

fn micros(ns: i64) -> Micros {
    u64::try_from(ns).unwrap_or(0).div_ceil(1000)
}

/// Takes samples from the core and gives the lists that are full or overdue.
pub(super) fn take(loaded: &mut Loaded, now: Micros, samples: Vec<Digest>) -> Vec<DigestList> {
    let mut lists = Vec::new();
    for sample in samples {
        let Some(id) = loaded.binding.digest_ids.get(&sample.digest).copied() else {
            continue;
        };
        let Some(active) = loaded.notes.digests.get_mut(&id) else {
            continue;
        };
        active.forget_old(now);
        if active.known.contains(&sample.values) || active.buffer.contains(&sample.values) {
            continue;
        }
        if active.buffer.is_empty() {
            active.buffer_since = now;
        }
        active.buffer.push(sample.values);
        let full = match usize::try_from(active.config.max_list_size) {
            Ok(0) | Err(_) => DEFAULT_LIST,
            Ok(size) => size,
        };
        if active.buffer.len() >= full || active.config.max_timeout_ns == 0 {
            lists.extend(flush(loaded, id, now));
        }
    }
    lists
}

/// The lists that are overdue.
pub(super) fn tick(loaded: &mut Loaded, now: Micros) -> Vec<DigestList> {
    let due: Vec<u32> = loaded
        .notes
        .digests
        .iter()
        .filter(|(_, active)| {
            !active.buffer.is_empty()
                && now.saturating_sub(active.buffer_since) >= micros(active.config.max_timeout_ns)
        })
        .map(|(id, _)| *id)
        .collect();
    due.into_iter()
        .filter_map(|id| flush(loaded, id, now))
        .collect()
}

pub(super) fn acknowledge(loaded: &mut Loaded, ack: &DigestListAck) -> Outcome<()> {
    if loaded.catalog.digests.get(ack.digest_id).is_none() {
        return Err(Refusal::invalid(format!(
            "there is no digest with id {:#010x}",
            ack.digest_id
        )));
    }
    if let Some(active) = loaded.notes.digests.get_mut(&ack.digest_id)
        && let Some(place) = active.sent.iter().position(|(id, ..)| *id == ack.list_id)
        && let Some((_, _, samples)) = active.sent.remove(place)
    {
        active.forget(&samples);
    }
    Ok(())
}

fn flush(loaded: &mut Loaded, id: u32, now: Micros) -> Option<DigestList> {
    let active = loaded.notes.digests.get_mut(&id)?;
    let samples = std::mem::take(&mut active.buffer);
    let list_id = active.next_list;
    active.next_list += 1;
    if active.config.ack_timeout_ns > 0 {
        active.known.extend(samples.iter().cloned());
        active.sent.push_back((list_id, now, samples.clone()));
        while active.known.len() > MAX_UNACKNOWLEDGED {
            let Some((_, _, oldest)) = active.sent.pop_front() else {
                break;
            };
            active.forget(&oldest);
        }
    }
    let spec = p4data::digest_spec(&loaded.catalog, id);
    let data: Vec<P4Data> = samples
        .into_iter()
        .filter_map(|sample| p4data::from_core(&loaded.catalog, spec, &mut sample.into_iter()).ok())
        .collect();
    Some(DigestList {
        digest_id: id,
        list_id,
        data,
        timestamp: super::device::epoch_ns(),
    })
}

impl Active {
    fn forget(&mut self, samples: &[Sample]) {
        for sample in samples {
            self.known.remove(sample);
        }
    }

    fn forget_old(&mut self, now: Micros) {
        let limit = micros(self.config.ack_timeout_ns);
        while let Some((_, since, _)) = self.sent.front()
            && now.saturating_sub(*since) >= limit
        {
            if let Some((_, _, samples)) = self.sent.pop_front() {
                self.forget(&samples);
            }
        }
    }
}
