//! Which request gets which fault: dealt from shuffled decks, so that every kind comes up in bounded time and the n-th request of
//! a kind gets the same fault in every run of a seed.

use std::iter::repeat_n;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// HTTP 500 or 429 in the place of an answer; nothing is handed on.
    HttpError,
    /// A JSON-RPC error; nothing is handed on.
    RpcError,
    /// The answer comes late.
    Delay,
    /// A transaction is handed on and its answer lost.
    LostTransaction,
    /// Any other request is handed on and its answer lost.
    LostAnswer,
    /// The connection is cut before anything is handed on.
    Cut,
    /// A transaction is handed on twice; the answer is that to the second.
    Duplicate,
    /// The answer is an old blockhash.
    StaleBlockhash,
    /// The answer is that of some seconds ago, as of a node that is behind.
    Lagging,
    /// The answer ends in its middle.
    Truncated,
    /// The answer is something else.
    Garbage,
    /// The whole node is down for some seconds: each request that finds nobody.
    Outage,
    /// A WebSocket is cut.
    SocketCut,
    /// A WebSocket stays open and says nothing more.
    SocketSilent,
}

impl Fault {
    /// All of them, in the order they are printed.
    pub const ALL: [Self; 14] = [
        Self::LostTransaction,
        Self::LostAnswer,
        Self::Cut,
        Self::HttpError,
        Self::RpcError,
        Self::Delay,
        Self::Duplicate,
        Self::StaleBlockhash,
        Self::Lagging,
        Self::Truncated,
        Self::Garbage,
        Self::Outage,
        Self::SocketCut,
        Self::SocketSilent,
    ];

    /// What a number of them is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostTransaction => "answers to sent transactions lost",
            Self::LostAnswer => "other answers lost",
            Self::Cut => "connections cut",
            Self::HttpError => "HTTP errors",
            Self::RpcError => "JSON-RPC errors",
            Self::Delay => "delays",
            Self::Duplicate => "transactions delivered twice",
            Self::StaleBlockhash => "stale blockhashes",
            Self::Lagging => "answers of the past",
            Self::Truncated => "truncated answers",
            Self::Garbage => "garbage answers",
            Self::Outage => "requests to a node that was down",
            Self::SocketCut => "WebSockets cut",
            Self::SocketSilent => "WebSockets gone silent",
        }
    }
}

/// Requests that faults are dealt to separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `sendTransaction`.
    Send,
    /// `getLatestBlockhash`.
    Blockhash,
    /// Any other JSON-RPC call.
    Read,
    /// An agent's HTTP.
    Agent,
    /// A WebSocket connection.
    Socket,
}

impl Route {
    pub(super) const ALL: [Self; 5] = [Self::Send, Self::Blockhash, Self::Read, Self::Agent, Self::Socket];

    /// How many of each fault one deck has, and how many requests pass unharmed.
    fn cards(self) -> (&'static [(Fault, usize)], usize) {
        use Fault::{
            Cut, Delay, Duplicate, Garbage, HttpError, Lagging, LostAnswer, LostTransaction, Outage, RpcError, SocketCut,
            SocketSilent, StaleBlockhash, Truncated,
        };
        match self {
            Self::Send => (
                &[
                    (LostTransaction, 2),
                    (Duplicate, 2),
                    (HttpError, 1),
                    (RpcError, 1),
                    (Delay, 1),
                    (Cut, 1),
                    (Truncated, 1),
                    (Garbage, 1),
                ],
                10,
            ),
            Self::Blockhash => (
                &[
                    (StaleBlockhash, 2),
                    (HttpError, 1),
                    (RpcError, 1),
                    (Delay, 1),
                    (LostAnswer, 1),
                    (Cut, 1),
                    (Truncated, 1),
                    (Garbage, 1),
                ],
                22,
            ),
            Self::Read => (
                &[
                    (Lagging, 6),
                    (HttpError, 2),
                    (RpcError, 2),
                    (Delay, 3),
                    (LostAnswer, 2),
                    (Cut, 2),
                    (Truncated, 2),
                    (Garbage, 2),
                    (Outage, 1),
                ],
                278,
            ),
            Self::Agent => (&[(HttpError, 1), (Delay, 1), (LostAnswer, 1), (Cut, 1), (Truncated, 1), (Garbage, 1)], 84),
            Self::Socket => (&[(SocketCut, 2), (SocketSilent, 1)], 12),
        }
    }
}

/// A shuffled deck that is shuffled again when it is used up.
pub(super) struct Deck {
    cards: Vec<Option<Fault>>,
    next: usize,
    random: StdRng,
}

impl Deck {
    pub(super) fn new(route: Route, seed: u64) -> Self {
        let (faults, unharmed) = route.cards();
        let faults = faults.iter().flat_map(|(fault, times)| repeat_n(Some(*fault), *times));
        let cards = faults.chain(repeat_n(None, unharmed)).collect();
        let mut deck = Self { cards, next: 0, random: StdRng::seed_from_u64(seed ^ ((route as u64 + 1) << 32)) };
        deck.shuffle();
        deck
    }

    fn shuffle(&mut self) {
        self.cards.shuffle(&mut self.random);
        self.next = 0;
    }

    /// The next request's fault and a number to draw its details from.
    pub(super) fn deal(&mut self) -> (Option<Fault>, u64) {
        if self.next == self.cards.len() {
            self.shuffle();
        }
        self.next += 1;
        (self.cards[self.next - 1], self.random.random())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_deals_the_same_and_a_deck_deals_every_fault() {
        let mut seen = BTreeSet::new();
        for route in Route::ALL {
            let (mut one, mut same, mut other) = (Deck::new(route, 1), Deck::new(route, 1), Deck::new(route, 2));
            let (faults, unharmed) = route.cards();
            let harmed: usize = faults.iter().map(|(_, times)| times).sum();
            let dealt: Vec<_> = (0..3 * (harmed + unharmed)).map(|_| one.deal()).collect();
            assert_eq!(dealt, (0..dealt.len()).map(|_| same.deal()).collect::<Vec<_>>());
            assert_ne!(dealt, (0..dealt.len()).map(|_| other.deal()).collect::<Vec<_>>());
            for part in dealt.chunks(harmed + unharmed) {
                assert_eq!(part.iter().filter(|(fault, _)| fault.is_some()).count(), harmed);
            }
            seen.extend(faults.iter().map(|(fault, _)| *fault));
        }
        assert_eq!(seen, BTreeSet::from(Fault::ALL));
    }
}
