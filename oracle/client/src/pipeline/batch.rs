//! Many small actions in few transactions.

use std::collections::VecDeque;

use solana_instruction::{Instruction, error::InstructionError};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_transaction_error::TransactionError;

use super::{Landed, MAX_COMPUTE_UNITS, MAX_TRANSACTION, Pipeline, SendError, budgeted, wire_bytes};

/// Something to do, which may share a transaction with others.
#[derive(Clone, Debug)]
pub struct Action<'a> {
    /// What it does, as in "cannot {label}".
    pub label: String,
    /// How; they stay together and in order.
    pub instructions: Vec<Instruction>,
    /// The keys it needs beyond the payer's.
    pub signers: Vec<&'a Keypair>,
}

impl Pipeline {
    /// Sends actions, packed in the order given into as few transactions as their bytes and compute units allow, one transaction
    /// after the other. The results are in the order of the actions.
    ///
    /// An action that fails, in simulation or on chain, is taken out and sent alone after the others, so that it holds up none of
    /// them and gets an error of its own. A transaction is all or nothing: what is packed anew was not done. The fee of a shared
    /// transaction is divided among its actions to the lamport; that of one that landed and failed is the failing action's.
    ///
    /// # Errors
    /// For each action as [`Pipeline::send`]. When the node is away, what was not tried yet is not tried.
    pub async fn send_batch(&self, actions: &[Action<'_>]) -> Vec<Result<Landed, SendError>> {
        let results = actions.iter().map(|_| None).collect();
        let mut batch = Batch { pipeline: self, actions, results, wasted: vec![0; actions.len()] };
        if let Err(error) = batch.run().await {
            batch.give_up(&error);
        }
        batch.results.into_iter().map(|result| result.expect("what was given up has a result too")).collect()
    }
}

struct Batch<'a> {
    pipeline: &'a Pipeline,
    actions: &'a [Action<'a>],
    results: Vec<Option<Result<Landed, SendError>>>,
    /// Lamports that went for transactions which an action brought down.
    wasted: Vec<u64>,
}

/// What to do after a pack was tried.
enum Next {
    /// All of it has results.
    Done,
    /// Without this action: it fails.
    Without(usize),
    /// With fewer at a time.
    Split,
}

impl Batch<'_> {
    /// Errors are those after which the rest is not tried.
    async fn run(&mut self) -> Result<(), SendError> {
        let mut queue = VecDeque::new();
        for (i, action) in self.actions.iter().enumerate() {
            self.pipeline.inner.ready(&action.label).await?;
            match self.pipeline.inner.adopt(&action.label, &action.instructions).await {
                Ok(None) => queue.push_back(i),
                Ok(Some(landed)) => self.results[i] = Some(Ok(landed)),
                Err(error) => self.results[i] = Some(Err(error)),
            }
        }
        let (mut failed, mut most) = (Vec::new(), usize::MAX);
        while !queue.is_empty() {
            let pack = self.take(&mut queue, most);
            most = usize::MAX;
            if let [i] = pack[..] {
                self.alone(i).await?;
                continue;
            }
            let culprit = match self.pack(&pack).await? {
                Next::Done => continue,
                Next::Split => {
                    most = pack.len() / 2;
                    None
                }
                Next::Without(culprit) => Some(culprit),
            };
            failed.extend(culprit);
            for &i in pack.iter().rev().filter(|i| Some(**i) != culprit) {
                queue.push_front(i);
            }
        }
        failed.sort_unstable();
        for i in failed {
            self.alone(i).await?;
        }
        Ok(())
    }

    /// Takes the longest run of actions that fits into one transaction, at least one action and at most `most`.
    fn take(&self, queue: &mut VecDeque<usize>, most: usize) -> Vec<usize> {
        let payer = self.pipeline.payer();
        let mut pack = Vec::new();
        let mut instructions = Vec::new();
        while let Some(&i) = queue.front()
            && pack.len() < most.max(1)
        {
            instructions.extend_from_slice(&self.actions[i].instructions);
            // Measured with a price: whether there is one is known only later.
            let message = Message::new(&budgeted(&instructions, MAX_COMPUTE_UNITS, 1), Some(&payer));
            if !pack.is_empty() && wire_bytes(&message) > MAX_TRANSACTION {
                break;
            }
            pack.push(i);
            queue.pop_front();
        }
        pack
    }

    async fn alone(&mut self, i: usize) -> Result<(), SendError> {
        let Action { label, instructions, signers } = &self.actions[i];
        let wasted = self.wasted[i];
        let result = match self.pipeline.send(label, instructions, signers).await {
            Ok(landed) => Ok(Landed { fee: landed.fee + wasted, ..landed }),
            Err(SendError::Failed { label, signature, refusal, fee }) => {
                Err(SendError::Failed { label, signature, refusal, fee: fee + wasted })
            }
            Err(error) => Err(error),
        };
        let stop = result.as_ref().err().filter(|error| stops(error)).map(|error| error.for_action(label));
        self.results[i] = Some(result);
        stop.map_or(Ok(()), Err)
    }

    async fn pack(&mut self, pack: &[usize]) -> Result<Next, SendError> {
        let actions: Vec<&Action<'_>> = pack.iter().map(|&i| &self.actions[i]).collect();
        let label = match &actions[..] {
            [first, .., last] if actions.len() > 3 => {
                format!("do {} actions in one, from `{}` to `{}`", actions.len(), first.label, last.label)
            }
            few => few.iter().map(|action| action.label.as_str()).collect::<Vec<_>>().join(" and "),
        };
        let parts: Vec<&[Instruction]> = actions.iter().map(|action| action.instructions.as_slice()).collect();
        let signers: Vec<&Keypair> = actions.iter().flat_map(|action| action.signers.iter().copied()).collect();
        let inner = &self.pipeline.inner;
        let draft = match inner.draft(&label, &parts.concat(), &signers).await {
            Ok(draft) if inner.fits(draft.units) => draft,
            Ok(_) => return Ok(Next::Split),
            Err(error) => return self.after(pack, 0, error),
        };
        let error = match inner.carry(&label, &parts, &signers, draft).await {
            Ok(landed) => {
                let share = landed.fee / pack.len() as u64;
                let rest = landed.fee - share * (pack.len() as u64 - 1);
                for (&i, share) in pack.iter().zip(std::iter::once(rest).chain(std::iter::repeat(share))) {
                    self.results[i] = Some(Ok(Landed { fee: share, ..landed }));
                }
                return Ok(Next::Done);
            }
            Err(error) => error,
        };
        self.after(pack, draft.price, error)
    }

    /// What follows from the error of a pack.
    fn after(&mut self, pack: &[usize], price: u64, error: SendError) -> Result<Next, SendError> {
        if let Some(refusal) = error.refusal() {
            // Nothing was done. Whose fault was it?
            let next = match refusal.error {
                // Of all of them together, as long as they are several.
                TransactionError::InstructionError(
                    _,
                    InstructionError::ComputationalBudgetExceeded | InstructionError::MaxInstructionTraceLengthExceeded,
                ) => Next::Split,
                TransactionError::InstructionError(at, _) => {
                    let before = budgeted(&[], 0, price).len();
                    usize::from(at)
                        .checked_sub(before)
                        .and_then(|at| self.owner(pack, at))
                        .map_or(Next::Split, Next::Without)
                }
                _ => Next::Split,
            };
            if let SendError::Failed { fee, .. } = error {
                let at = if let Next::Without(culprit) = next { culprit } else { pack[0] };
                self.wasted[at] += fee;
            }
            return Ok(next);
        }
        if matches!(error, SendError::Unsigned { .. } | SendError::TooLarge { .. }) {
            // Of one of them; which, shows alone.
            return Ok(Next::Split);
        }
        for &i in pack {
            self.results[i] = Some(Err(error.for_action(&self.actions[i].label)));
        }
        if stops(&error) { Err(error) } else { Ok(Next::Done) }
    }

    /// Whose instruction it is.
    fn owner(&self, pack: &[usize], instruction: usize) -> Option<usize> {
        let mut end = 0;
        pack.iter().copied().find(|&i| {
            end += self.actions[i].instructions.len();
            instruction < end
        })
    }

    /// The rest is not tried.
    fn give_up(&mut self, error: &SendError) {
        for (result, action) in self.results.iter_mut().zip(self.actions) {
            result.get_or_insert_with(|| Err(error.not_tried(&action.label)));
        }
    }
}

/// Whether the next would fare the same.
const fn stops(error: &SendError) -> bool {
    matches!(error, SendError::Rpc(_) | SendError::Store(_) | SendError::Unknown { .. } | SendError::Unresolved { .. })
}
