//! What a transaction does, read from its bytes: the actions of the program that a run counts and the instant one of them is sent.

use base64::{Engine, prelude::BASE64_STANDARD};
use datagalax_client::{Address, addresses::PROGRAM};
use solana_transaction::Transaction;

/// Instructions whose doing twice would be a fault, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Move to an epoch.
    Advance,
    /// Fix an epoch's seed.
    Draw,
    /// Write a block's committee.
    Seat,
    /// Judge and pay a block.
    Tally,
    /// Commit a seat.
    Commit,
    /// Reveal a seat's report.
    Reveal,
    /// Claim rows into vesting.
    Claim,
    /// Settle a lease.
    Settle,
    /// Anything else of the program, by its discriminator.
    Other(u8),
}

/// First byte of each instruction's data, and the places of the accounts that say what it is about.
const KINDS: [(u8, Kind, &[usize]); 8] = [
    (40, Kind::Advance, &[]),
    (42, Kind::Draw, &[1]),
    (43, Kind::Seat, &[1, 3]),
    (44, Kind::Tally, &[1, 4]),
    (32, Kind::Commit, &[2]),
    (33, Kind::Reveal, &[2]),
    (50, Kind::Claim, &[2, 3]),
    (76, Kind::Settle, &[1]),
];

/// One instruction and what it is about: the same action sent by two keepers is equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    /// What is done.
    pub kind: Kind,
    /// To which accounts.
    pub to: Vec<Address>,
    /// Epoch and seat, where the instruction names them.
    pub of: Vec<u8>,
}

/// A transaction as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Who pays.
    pub payer: Address,
    /// What it does with the program.
    pub actions: Vec<Action>,
}

impl Sent {
    /// Reads a transaction in base64, as JSON-RPC carries it; `None` when it is not one of ours.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let transaction: Transaction = bincode::deserialize(&bytes).ok()?;
        let keys = &transaction.message.account_keys;
        let actions = transaction.message.instructions.iter().filter_map(|instruction| {
            let named: Vec<Address> =
                instruction.accounts.iter().map(|i| keys.get(usize::from(*i)).copied()).collect::<Option<_>>()?;
            let program = keys.get(usize::from(instruction.program_id_index))?;
            (*program == PROGRAM).then(|| Action::read(&named, &instruction.data)).flatten()
        });
        Some(Self { payer: *keys.first()?, actions: actions.collect() })
    }

    /// Whether it does something of this kind.
    pub fn does(&self, kind: Kind) -> bool {
        self.actions.iter().any(|action| action.kind == kind)
    }
}

impl Action {
    /// The epoch that the instruction names: of an advance, a commit or a reveal.
    pub fn epoch(&self) -> Option<u32> {
        self.of.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// `None` for an instruction without data.
    pub fn read(accounts: &[Address], data: &[u8]) -> Option<Self> {
        let (first, arguments) = data.split_first()?;
        let Some((_, kind, places)) = KINDS.iter().find(|(tag, ..)| tag == first) else {
            return Some(Self { kind: Kind::Other(*first), to: Vec::new(), of: Vec::new() });
        };
        let to = places.iter().filter_map(|place| accounts.get(*place).copied()).collect();
        let names = match kind {
            Kind::Advance => 4,
            // Epoch and seat; what is committed or revealed is not what tells two actions apart.
            Kind::Commit | Kind::Reveal => 5,
            _ => 0,
        };
        Some(Self { kind: *kind, to, of: arguments.iter().take(names).copied().collect() })
    }
}

#[cfg(test)]
mod tests {
    use datagalax_client::{
        addresses,
        instructions::{self, SeatRef},
    };
    use solana_instruction::Instruction;
    use solana_keypair::Keypair;
    use solana_message::Message;
    use solana_signer::Signer;

    use super::*;

    fn action(instruction: &Instruction) -> Action {
        let accounts: Vec<Address> = instruction.accounts.iter().map(|a| a.pubkey).collect();
        Action::read(&accounts, &instruction.data).unwrap()
    }

    #[test]
    fn the_builders_instructions_are_told_apart() {
        let me = Address::new_from_array([7; 32]);
        let at = SeatRef { block: 3, epoch: 9, seat: 2 };
        let values = [0; datagalax::report::REPORT_LEN];
        let commit = action(&instructions::commit_report(&me, at, Some(1), [1; 32]));
        assert_eq!((commit.kind, &commit.to, commit.epoch()), (Kind::Commit, &vec![addresses::block(3)], Some(9)));
        assert_eq!(commit, action(&instructions::commit_report(&Address::default(), at, None, [2; 32])));
        let other = SeatRef { seat: 3, ..at };
        assert_ne!(commit, action(&instructions::commit_report(&me, other, None, [1; 32])));
        let reveal = action(&instructions::reveal_report(&me, at, &[0; 32], &[0; 32], &values));
        assert_eq!((reveal.kind, &reveal.to, &reveal.of), (Kind::Reveal, &vec![addresses::block(3)], &commit.of));
        let draw = action(&instructions::draw(4, None));
        assert_eq!((draw.kind, draw.to), (Kind::Draw, vec![addresses::epoch(4)]));
        let seat = action(&instructions::seat_block(4, 1));
        assert_eq!((seat.kind, seat.to), (Kind::Seat, vec![addresses::epoch(4), addresses::block(1)]));
        let claim = action(&instructions::claim_rewards(&me, 5, 1, &[0]));
        assert_eq!((claim.kind, claim.to), (Kind::Claim, vec![addresses::provider(5), addresses::block(1)]));
    }

    #[test]
    fn a_transaction_is_read_from_its_wire_form() {
        let payer = Keypair::new();
        let message = Message::new(&[instructions::draw(4, None)], Some(&payer.pubkey()));
        let wire = bincode::serialize(&Transaction::new_unsigned(message)).unwrap();
        let sent = Sent::read(&BASE64_STANDARD.encode(wire)).unwrap();
        assert_eq!(sent.payer, payer.pubkey());
        assert!(sent.does(Kind::Draw) && !sent.does(Kind::Tally));
        assert_eq!(Sent::read("no transaction"), None);
    }
}
