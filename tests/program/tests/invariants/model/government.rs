//! The authority, the guardian, what is proposed and the classes.

use datagalax::state::{ClassTerms, Proposal, VestingTerms};
use solana_pubkey::Pubkey;

use super::{Answer, Class, Grid, Model, day, need};

impl Model {
    fn is_valid(proposal: &Proposal) -> bool {
        let p = &proposal.parameters;
        let length = proposal.epoch_length;
        let v = &proposal.vesting;
        let shares = [p.container_share_bps, p.checker_share_bps, p.treasury_share_bps].map(u32::from).iter().sum::<u32>();
        shares == 10_000
            && (20..=86_400).contains(&length)
            && p.commit_lead + 7.min(length / 4) < length / 2
            && p.reveal_window < length / 2
            && p.case_window >= 8 * length
            && p.unbonding >= p.case_window + 4 * length
            && (*v == VestingTerms::default() || v.immediate_bps + v.short_bps + v.long_bps == 10_000)
    }

    pub(super) fn propose(&mut self, by: Pubkey, proposal: &Proposal) -> Answer {
        need(by == self.authority, "not the authority")?;
        need(Self::is_valid(proposal), "out of bounds")?;
        self.pending = Some((self.now + i64::from(self.parameters.time_lock), Box::new(*proposal)));
        Ok(())
    }

    pub(super) fn cancel_proposal(&mut self, by: Pubkey) -> Answer {
        need(by == self.authority, "not the authority")?;
        self.pending.take().map(|_| ()).ok_or("nothing pending")
    }

    pub(super) fn apply_proposal(&mut self) -> Answer {
        let (at, proposal) = self.pending.take().ok_or("nothing pending")?;
        need(self.now >= at, "time lock")?;
        let p = proposal.parameters;
        let newest = *self.grids.last().ok_or("no grid")?;
        let wanted = Grid {
            length: i64::from(proposal.epoch_length),
            reveal: i64::from(p.reveal_window),
            lead: i64::from(p.commit_lead),
            ..newest
        };
        if wanted != newest {
            match self.epoch_at(self.now) {
                // Before the first epoch nothing has begun.
                Err(_) => self.grids = vec![wanted],
                Ok(epoch) => {
                    need(newest.first == 0 || newest.first + 2 <= epoch, "grid change pending")?;
                    self.grids.push(Grid { start: self.bounds(epoch).1, first: epoch + 1, ..wanted });
                }
            }
        }
        if proposal.vesting != VestingTerms::default() {
            self.add_terms(&proposal.vesting)?;
        }
        self.parameters = p;
        self.emission = proposal.emission;
        if let Some(current) = self.current {
            self.emission.next_decay = self.emission.next_decay.max(current + 1);
        }
        (self.treasury, self.guardian) = (proposal.treasury, proposal.guardian);
        Ok(())
    }

    /// New terms from the next day, in the first place that is free, holds terms of that same day, or terms that later ones
    /// replaced 180 days ago.
    fn add_terms(&mut self, terms: &VestingTerms) -> Answer {
        let (today, all) = (day(self.now), self.terms);
        let replaced = |t: &VestingTerms| all.iter().flatten().any(|n| n.from_day > t.from_day && n.from_day + 180 <= today);
        let place = all.iter().position(|t| t.is_none_or(|t| t.from_day == today + 1 || replaced(&t)));
        let id = all.iter().flatten().map(|t| t.id).max().unwrap_or(0) + 1;
        self.terms[place.ok_or("too many terms")?] = Some(VestingTerms { id, from_day: today + 1, ..*terms });
        Ok(())
    }

    /// The terms of a day.
    pub fn terms_on(&self, day: u32) -> VestingTerms {
        *self.terms.iter().flatten().filter(|t| t.from_day <= day).max_by_key(|t| t.from_day).expect("there are terms")
    }

    pub(super) fn pause(&mut self, by: Pubkey) -> Answer {
        if by != self.authority {
            need(by == self.guardian, "neither authority nor guardian")?;
            need(self.guardian_paused.is_none_or(|at| self.now >= at + 7 * 86_400), "the guardian rests")?;
            self.guardian_paused = Some(self.now);
        }
        self.paused_until = self.now + 72 * 3_600;
        Ok(())
    }

    pub(super) fn create_class(&mut self, by: Pubkey, id: u16, terms: &ClassTerms) -> Answer {
        need(by == self.authority, "not the authority")?;
        need(!self.classes.contains_key(&id), "there is one")?;
        let pending = Some((self.now + i64::from(self.parameters.time_lock), *terms));
        let none = ClassTerms::default();
        self.classes.insert(id, Class { terms: none, pending });
        if self.current.is_none() || self.parameters.time_lock == 0 { self.settle_terms(id) } else { Ok(()) }
    }

    pub(super) fn update_class(&mut self, by: Pubkey, id: u16, terms: &ClassTerms) -> Answer {
        need(by == self.authority, "not the authority")?;
        let at = self.now + i64::from(self.parameters.time_lock);
        let class = self.classes.get_mut(&id).ok_or("no class")?;
        class.pending = (*terms != class.terms).then_some((at, *terms));
        Ok(())
    }

    pub(super) fn apply_class(&mut self, id: u16) -> Answer {
        let (at, _) = self.classes.get(&id).ok_or("no class")?.pending.ok_or("nothing pending")?;
        need(self.now >= at, "time lock")?;
        self.settle_terms(id)
    }

    /// No class weighs more per throughput than the largest; a larger one weighs no less per throughput than the one before.
    fn settle_terms(&mut self, id: u16) -> Answer {
        let class = self.classes.get_mut(&id).ok_or("no class")?;
        let (_, terms) = class.pending.take().ok_or("nothing pending")?;
        let own = (u128::from(terms.unit_weight), u128::from(terms.reference_throughput));
        if let Some(largest) = self.largest {
            let (a, b) = (own.0 * largest.1, largest.0 * own.1);
            need(if own.1 > largest.1 { a >= b } else { a <= b }, "too heavy")?;
        }
        if self.largest.is_none_or(|l| own.1 > l.1) {
            self.largest = Some(own);
        }
        class.terms = terms;
        Ok(())
    }
}
