//! What every instruction must refuse, tried by changing one thing of a call that succeeds: a signature, a writable flag, an
//! account, a byte of data. Refusals that only one instruction has are in its own module.

use crate::{
    World,
    addresses::{SYSTEM_PROGRAM, TOKEN_PROGRAM},
    world::{Key, address_of},
};
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// A call that succeeds as it is.
pub struct Call {
    /// Where it is sent.
    pub world: World,
    /// The call.
    pub instruction: Instruction,
    /// Who signs it, besides the world's payer.
    pub signers: Vec<Key>,
    /// An account (by index) whose length the call is there to change.
    pub may_be_shorter: Option<usize>,
    /// A signer (by index) that may be anybody: who it is is not looked at, only that somebody signs.
    pub may_be_anybody: Option<usize>,
    /// What the transaction holds before it and the call cannot do without.
    pub before: Vec<Instruction>,
}

impl Call {
    /// A call that changes no account's length.
    pub fn new(world: World, instruction: Instruction, signers: &[&Key]) -> Self {
        let signers = signers.iter().map(|k| (*k).clone()).collect();
        Self { world, instruction, signers, may_be_shorter: None, may_be_anybody: None, before: vec![] }
    }

    fn send(&mut self, instruction: &Instruction) -> Result<(), String> {
        let signers: Vec<&Keypair> = self.signers.iter().map(|k| &**k).collect();
        let all = [&self.before[..], std::slice::from_ref(instruction)].concat();
        self.world.send(&all, &signers).map(|_| ()).map_err(|f| f.name)
    }

    #[track_caller]
    fn refused(&mut self, what: &str, expected: &[&str], change: impl FnOnce(&mut Instruction)) {
        let mut changed = self.instruction.clone();
        change(&mut changed);
        match self.send(&changed) {
            Ok(()) => panic!("{what}: was done"),
            Err(name) => assert!(expected.is_empty() || expected.contains(&name.as_str()), "{what}: refused with {name}"),
        }
    }

    /// Tries everything; at the end the unchanged call must succeed, so that no refusal had another reason.
    #[track_caller]
    pub fn check(mut self) {
        let before = self.world.fingerprint();
        self.without_signatures();
        self.read_only();
        self.other_accounts();
        self.forged_accounts();
        self.same_accounts();
        self.fewer_accounts();
        self.cut_data();
        assert_eq!(self.world.fingerprint(), before, "a refused call changed something");
        let instruction = self.instruction.clone();
        self.send(&instruction).expect("unchanged, the call succeeds");
        assert_ne!(self.world.fingerprint(), before, "the call changes something");
        self.world.check_books();
    }

    fn metas(&self) -> Vec<AccountMeta> {
        self.instruction.accounts.clone()
    }

    fn without_signatures(&mut self) {
        for (i, _) in self.metas().iter().enumerate().filter(|(_, m)| m.is_signer) {
            self.refused(&format!("account {i} does not sign"), &["MissingRequiredSignature"], |c| {
                c.accounts[i].is_signer = false;
            });
        }
    }

    fn read_only(&mut self) {
        for (i, meta) in self.metas().iter().enumerate().filter(|(_, m)| m.is_writable) {
            // The same account may be named twice, or pay the fee: one writable flag is enough then.
            let named = self.instruction.accounts.iter().filter(|m| m.pubkey == meta.pubkey).count();
            if named > 1 || meta.pubkey == self.world.payer.pubkey() {
                continue;
            }
            // Of a signer, Anchor reports either lack as the first; an account to be created has none of ours in it yet, and
            // the runtime refuses its creation.
            let names = if meta.is_signer {
                &["ConstraintMut", "MissingRequiredSignature"][..]
            } else if self.world.try_account(&meta.pubkey).is_none() {
                &["ConstraintMut", "PrivilegeEscalation"][..]
            } else {
                &["ConstraintMut"][..]
            };
            self.refused(&format!("account {i} is read-only"), names, |c| c.accounts[i].is_writable = false);
        }
    }

    /// Every account of another type in the place of each of ours, of each token account and of each program.
    fn other_accounts(&mut self) {
        let kinds = self.one_of_each_kind();
        for (i, meta) in self.metas().iter().enumerate() {
            if meta.pubkey == datagalax::ID {
                continue;
            }
            let kind = self.kind(&meta.pubkey);
            let program = [SYSTEM_PROGRAM, TOKEN_PROGRAM].contains(&meta.pubkey);
            if kind.is_none() && !program && !meta.is_writable {
                continue;
            }
            for (other, address) in kinds.iter().filter(|(k, _)| Some(k) != kind.as_ref()) {
                // A place for a new account or for a signer takes any address; what becomes of those is tested elsewhere.
                if kind.is_none() && !program {
                    continue;
                }
                self.refused(&format!("account {i} is a {other:?}"), &[], |c| c.accounts[i].pubkey = *address);
            }
        }
    }

    /// The same bytes under another owner, cut short, or without their discriminator.
    fn forged_accounts(&mut self) {
        let forged = address_of(&[b"forged"]);
        for (i, meta) in self.metas().iter().enumerate() {
            let Some(account) = self.world.try_account(&meta.pubkey) else { continue };
            let ours = account.owner == datagalax::ID;
            if !ours && account.owner != TOKEN_PROGRAM {
                continue;
            }
            self.world.put(forged, address_of(&[b"another program"]), account.data.clone());
            self.refused(&format!("account {i} belongs to another program"), &[], |c| c.accounts[i].pubkey = forged);
            let shorter = if self.may_be_shorter == Some(i) { 8 } else { account.data.len() };
            for length in [0, 7, account.data.len() - 1].into_iter().filter(|l| *l < shorter) {
                let mut cut = account.clone();
                cut.data.truncate(length);
                self.world.put_account(meta.pubkey, cut);
                self.refused(&format!("account {i} has {length} bytes"), &[], |_| {});
            }
            if self.may_be_shorter != Some(i) {
                let mut longer = account.clone();
                longer.data.push(0);
                self.world.put_account(meta.pubkey, longer);
                self.refused(&format!("account {i} is a byte too long"), &[], |_| {});
            }
            if ours {
                let mut blank = account.clone();
                blank.data[..8].fill(0);
                self.world.put_account(meta.pubkey, blank);
                self.refused(&format!("account {i} has no discriminator"), &[], |_| {});
            }
            self.world.put_account(meta.pubkey, account);
        }
    }

    fn same_accounts(&mut self) {
        let metas = self.metas();
        for (i, one) in metas.iter().enumerate() {
            for (j, other) in metas.iter().enumerate() {
                let optional = one.pubkey == datagalax::ID || other.pubkey == datagalax::ID;
                if one.pubkey == other.pubkey || optional || self.may_be_anybody == Some(i) {
                    continue;
                }
                self.refused(&format!("account {i} is account {j}"), &[], |c| c.accounts[i].pubkey = other.pubkey);
            }
        }
    }

    fn fewer_accounts(&mut self) {
        for count in 0..self.instruction.accounts.len() {
            self.refused(&format!("{count} accounts"), &["NotEnoughAccountKeys"], |c| c.accounts.truncate(count));
        }
    }

    fn cut_data(&mut self) {
        for length in 0..self.instruction.data.len() {
            self.refused(&format!("{length} bytes of data"), &["InvalidInstructionData"], |c| c.data.truncate(length));
        }
    }

    /// What an account is: owner, and the discriminator of ours or the length of a token program's.
    fn kind(&self, address: &Pubkey) -> Option<(Pubkey, Vec<u8>)> {
        let account = self.world.try_account(address)?;
        if account.owner == datagalax::ID {
            Some((account.owner, account.data.get(..8)?.to_vec()))
        } else if account.owner == TOKEN_PROGRAM {
            Some((account.owner, account.data.len().to_le_bytes().to_vec()))
        } else {
            None
        }
    }

    fn one_of_each_kind(&self) -> Vec<((Pubkey, Vec<u8>), Pubkey)> {
        let mut kinds: Vec<((Pubkey, Vec<u8>), Pubkey)> = vec![];
        let mut addresses: Vec<Pubkey> = self.world.svm.accounts_db().inner.keys().copied().collect();
        addresses.sort();
        for address in addresses {
            if let Some(kind) = self.kind(&address)
                && kinds.iter().all(|(k, _)| *k != kind)
            {
                kinds.push((kind, address));
            }
        }
        kinds
    }
}
