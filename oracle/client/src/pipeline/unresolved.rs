//! Transactions whose outcome this process lost sight of: resolved in the background, and never sent a second time meanwhile.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use solana_instruction::Instruction;
use solana_signature::Signature;
use tokio::time::{Instant, sleep};

use super::{Inner, Landed, Pending, settle::Settled};

/// Most actions at a time; with more nothing new is sent, for the nodes are evidently away.
pub(super) const MAX_UNRESOLVED: usize = 256;
/// How long it is remembered that one landed, for whoever sends it again.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// First and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One action of one of them.
#[derive(Clone)]
pub(super) struct Open {
    pub pending: Pending,
    /// What it does, without its budget: by this it is known when it is sent again.
    instructions: Vec<Instruction>,
    /// What it is charged if it lands, lamports.
    fee: u64,
    units: u64,
    /// That it landed, and when that was found out.
    landed: Option<(Landed, Instant)>,
    /// Held by the one who looks for the outcome. Two who did would not hear of each other's verdict: one would go on sending what
    /// the other has found expired and somebody has signed anew.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

impl Open {
    /// The actions that share a transaction.
    pub fn parts(pending: &Pending, parts: &[&[Instruction]], fee: u64, units: u64) -> Vec<Self> {
        let fee = fee / (parts.len().max(1) as u64);
        let turn = Arc::default();
        let part = |part: &&[Instruction]| Self {
            pending: pending.clone(),
            instructions: part.to_vec(),
            fee,
            units,
            landed: None,
            turn: Arc::clone(&turn),
        };
        parts.iter().map(part).collect()
    }

    pub fn signature(&self) -> Signature {
        self.pending.signature()
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Unresolved(Mutex<State>);

#[derive(Default)]
struct State {
    all: Vec<Open>,
    /// Whether a task works on them.
    running: bool,
}

impl Unresolved {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Actions whose outcome is not known.
    pub fn len(&self) -> usize {
        self.state().all.iter().filter(|open| open.landed.is_none()).count()
    }

    /// One that does just this, and whose outcome is not known.
    pub fn open_that_does(&self, instructions: &[Instruction]) -> Option<Open> {
        let state = self.state();
        state.all.iter().find(|open| open.landed.is_none() && open.instructions == instructions).cloned()
    }

    /// Whether the outcome of this transaction is still not known.
    pub fn is_open(&self, signature: &Signature) -> bool {
        self.state().all.iter().any(|open| open.landed.is_none() && open.signature() == *signature)
    }

    /// One that did just this, lately: it is given once.
    pub fn take_landed(&self, instructions: &[Instruction]) -> Option<Landed> {
        let mut state = self.state();
        let at = state.all.iter().position(|open| open.landed.is_some() && open.instructions == instructions)?;
        state.all.remove(at).landed.map(|(landed, _)| landed)
    }

    /// Notes an outcome. Whether it was not noted before.
    pub fn close(&self, signature: &Signature, settled: &Settled) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let mut first = false;
        state.all.retain_mut(|open| {
            if open.landed.is_some() || open.signature() != *signature {
                // Whoever has not asked by now will not.
                return open.landed.as_ref().is_none_or(|(_, at)| now - *at < REMEMBERED_FOR);
            }
            first = true;
            if let Settled::Landed { slot } = *settled {
                let landed = Landed { signature: *signature, slot, units: open.units, fee: open.fee };
                open.landed = Some((landed, now));
            }
            open.landed.is_some()
        });
        let landed = state.all.iter().filter(|open| open.landed.is_some()).count();
        let mut over = landed.saturating_sub(MAX_UNRESOLVED);
        state.all.retain(|open| {
            let drop = over > 0 && open.landed.is_some();
            over -= usize::from(drop);
            !drop
        });
        first
    }

    /// Takes some up; `true` when a task must be started.
    fn add(&self, open: Vec<Open>) -> bool {
        let mut state = self.state();
        state.all.extend(open);
        !std::mem::replace(&mut state.running, true)
    }

    fn first(&self) -> Option<Open> {
        let mut state = self.state();
        let first = state.all.iter().find(|open| open.landed.is_none()).cloned();
        state.running = first.is_some();
        first
    }

    /// Puts the first at the end: one that cannot be resolved holds up nobody.
    fn turn(&self) {
        let mut state = self.state();
        if let Some(at) = state.all.iter().position(|open| open.landed.is_none()) {
            let open = state.all.remove(at);
            state.all.push(open);
        }
    }
}

/// Hands over one whose outcome is unknown. It is in the store, so that it is found at the next start if this process ends first.
fn hand_over(inner: &Arc<Inner>, open: Vec<Open>) {
    // Outside of a runtime (at the very end of a process) the store alone keeps it.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if inner.unresolved.add(open) {
        let weak = Arc::downgrade(inner);
        runtime.spawn(async move {
            let (mut pause, longest) = PAUSES;
            loop {
                sleep(pause).await;
                let Some(inner) = weak.upgrade() else { return };
                let Some(open) = inner.unresolved.first() else { return };
                let _turn = open.turn.lock().await;
                if !inner.unresolved.is_open(&open.signature()) {
                    continue;
                }
                match inner.settle(&open.pending).await {
                    Settled::Unknown { .. } => {
                        inner.unresolved.turn();
                        pause = (pause * 2).min(longest);
                    }
                    settled => {
                        pause = PAUSES.0;
                        inner.close(&open.pending, &settled).await;
                    }
                }
            }
        });
    }
}

/// Holds a transaction while its caller waits: a caller that goes away leaves it to the background.
pub(super) struct Held<'a> {
    inner: &'a Arc<Inner>,
    open: Vec<Open>,
}

impl<'a> Held<'a> {
    pub fn new(inner: &'a Arc<Inner>, open: Vec<Open>) -> Self {
        Self { inner, open }
    }

    /// Its outcome is known.
    pub fn done(mut self) {
        self.open.clear();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.open.is_empty() {
            hand_over(self.inner, std::mem::take(&mut self.open));
        }
    }
}
