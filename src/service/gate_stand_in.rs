//! A gate's manager for policy tests on the switch. As the evaluator's, it hands a connection over at its
//! SYN, which so is the first packet that the server sees: a test has no TCP that would answer for client and
//! server.

use std::time::Duration;

use signalbox_agent::adjust::Adjust;
use signalbox_agent::flow::Tuple;
use signalbox_agent::message::{Action, Capability, Leases};
use signalbox_lower::plan::{Limits, ServicePlan};
use signalbox_manager::{Choice, Decide, Decided, Opening};

/// How far the gate's numbers are ahead of the server's.
const AHEAD: u32 = 0x9e37_0000;

/// The decisions of one gate.
struct HandsOver {
    limits: Limits,
}

/// What decides for a gate in policy tests.
pub(super) fn gates(service: &ServicePlan) -> Option<Box<dyn Decide>> {
    service.gate.as_ref()?;
    Some(Box::new(HandsOver {
        limits: service.limits.clone(),
    }))
}

impl Decide for HandsOver {
    fn decide(
        &mut self,
        _now: Duration,
        opening: &Opening<'_>,
        _taken: &dyn Fn(&Tuple) -> bool,
    ) -> Choice {
        let adjust = |sequence, acknowledgement: u32| {
            vec![Action::Adjust(Adjust {
                sequence,
                acknowledgement,
                window_shift: 0,
            })]
        };
        Choice::Install(Decided {
            forward: (opening.flow, adjust(0, AHEAD.wrapping_neg())),
            reply: Some((opening.flow.reversed(), adjust(AHEAD, 0))),
            leases: Some(Leases {
                half_open_ms: None,
                idle_ms: Some(self.limits.idle_ms),
                closed_ms: Some(self.limits.closed_ms),
                hard_ms: None,
            }),
            statistics: None,
            cookie: Default::default(),
        })
    }

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Adjust]
    }
}
