//! A manager that starts where another one may decide meanwhile learns first what that one knows, and claims its
//! share then: until that moment the other one goes on deciding, and no new flow waits for the change.
//!
//! An agent may ask all the same, by criteria of this manager's former process: such questions wait until it decides.

use super::peers::Duty;
use super::{Manager, Output};

impl Manager {
    /// Holds shares back whose decisions another manager may tell; all, or one.
    pub(super) fn learn_first(&mut self, of: Option<usize>) {
        let duties = self.links.iter().flat_map(|link| &link.duties);
        for duty in duties.filter(|d| of.is_none_or(|index| d.index == index)) {
            if let Some(offer) = self.offers.get_mut(duty.index).filter(|o| !o.backup) {
                (offer.learning, offer.stands_by) = (true, true);
            }
        }
    }

    /// Whether a share waits to be claimed.
    pub(super) fn is_learning(&self, index: usize) -> bool {
        self.offers.get(index).is_some_and(|o| o.learning)
    }

    /// Whether it can be claimed. Without an agent there is nobody to claim it from.
    pub(super) fn has_learned(&self, duty: &Duty) -> bool {
        duty.recall.is_none() && self.is_learning(duty.index) && self.ways.known().next().is_some()
    }

    /// Claims the shares of which the other one has told all, or does not tell in time.
    pub(super) fn claim(&mut self) {
        let duties = self.links.iter().flat_map(|link| &link.duties);
        let due: Vec<usize> = (duties.filter(|d| self.has_learned(d)))
            .map(|d| d.index)
            .collect();
        for index in due {
            let (Some(offer), Some(service)) =
                (self.offers.get_mut(index), self.services.get(index))
            else {
                continue;
            };
            offer.learning = false;
            let told = service.passing.told.max(service.held.epoch());
            // An epoch that somebody has given is new as it is, if nobody has gone beyond it.
            let epoch = if offer.epoch > told {
                offer.epoch
            } else {
                offer.epoch_after(told)
            };
            self.reign(index, epoch, "the share is its own");
            // What an agent has yet of a former process is not what this one wants.
            if let Some(offer) = self.offers.get(index) {
                let criteria = (self.ways.iter())
                    .filter_map(|(id, way)| Some((id, way.session.criteria(index, offer)?)));
                (self.out).extend(criteria.map(|(id, said)| Output::Message(id, said)));
            }
        }
    }
}
