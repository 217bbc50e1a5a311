//! A local network as a child process, and the few calls every test makes.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    str::FromStr,
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use solana_client::{client_error::ClientError, rpc_client::RpcClient, rpc_request::RpcRequest};
use solana_commitment_config::CommitmentConfig;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::Transaction;

/// Lamports in one SOL.
pub const SOL: u64 = 1_000_000_000;

/// Fee of one signature in lamports.
pub const SIGNATURE_FEE: u64 = 5_000;

/// The longest a start may take on a loaded machine.
pub const START: Duration = Duration::from_secs(60);

/// The command under test.
pub fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_datagalax-localnet"))
}

/// Runs the command to its end, for arguments that are refused.
pub fn refused(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = command().args(arguments).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stdout.is_empty(), "a refusal belongs on stderr, stdout has {stdout:?}");
    (status.code().unwrap_or_else(|| panic!("killed by a signal; stderr: {stderr}")), stderr)
}

/// Two neighbouring ports that were free a moment ago, below the range the system hands out, different for each call. The
/// port before them is in no pair, so that a test may overlap its own pair without touching another's.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // At most 31,497, which leaves more than 400 pairs below the system's range (from 32,768 on Linux).
    let base = 12_000 + u16::try_from(std::process::id() % 6_500).unwrap() * 3;
    loop {
        let port = base + 1 + 3 * NEXT.fetch_add(1, Ordering::Relaxed);
        if is_free(port) && is_free(port + 1) {
            return port;
        }
    }
}

/// Whether nobody listens on the port. Not for waiting until a network has started: the look itself binds the port, and
/// the network may meet it.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Sends a signal, such as `INT`, to a process.
pub fn send_signal(name: &str, pid: u32) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap().success());
}

/// Waits for something to become true.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "{what}: not so after {limit:?}");
        sleep(Duration::from_millis(5));
    }
}

/// The lines that a child prints, as they come. They are read until its end, so that it is never held up.
pub fn lines_of(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
    lines
}

/// A running network; ends with the value.
pub struct Localnet {
    child: Child,
    pub port: u16,
    pub ready: Value,
    pub rpc: RpcClient,
}

impl Localnet {
    /// Starts a network on free ports and waits until it says that it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(free_port(), arguments)
    }

    pub fn start_on(port: u16, arguments: &[&str]) -> Self {
        let mut child = command()
            .args(["--json", "--port", &port.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let line = lines.recv_timeout(START).unwrap_or_else(|e| {
            let _ = child.kill();
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("the network did not start ({e}): {stderr}");
        });
        let ready: Value = serde_json::from_str(&line).unwrap();
        let rpc = RpcClient::new_with_commitment(ready["rpc"].as_str().unwrap(), CommitmentConfig::confirmed());
        Self { child, port, ready, rpc }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ws(&self) -> String {
        self.ready["ws"].as_str().unwrap().to_owned()
    }

    /// Sends a signal and waits for the end.
    pub fn stop_by(&mut self, signal: &str, limit: Duration) -> ExitStatus {
        send_signal(signal, self.child.id());
        wait_for("the network ends after a signal", limit, || self.child.try_wait().unwrap())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// A JSON-RPC call by its name, as another client would make it.
    pub fn call(&self, method: &'static str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    pub fn try_call(&self, method: &'static str, params: Value) -> Result<Value, ClientError> {
        self.rpc.send(RpcRequest::Custom { method }, params)
    }

    /// A new account with this much from the faucet.
    pub fn funded(&self, lamports: u64) -> Keypair {
        let keypair = Keypair::new();
        let signature = self.call("requestAirdrop", json!([keypair.pubkey().to_string(), lamports]));
        let signature = Signature::from_str(signature.as_str().unwrap()).unwrap();
        wait_for("an airdrop is confirmed", Duration::from_secs(30), || {
            self.rpc.confirm_transaction(&signature).unwrap().then_some(())
        });
        keypair
    }

    /// A signed transaction, with the first signer as payer.
    pub fn sign(&self, instructions: &[Instruction], signers: &[&Keypair]) -> Transaction {
        let blockhash = self.rpc.get_latest_blockhash().unwrap();
        Transaction::new_signed_with_payer(instructions, Some(&signers[0].pubkey()), signers, blockhash)
    }

    /// Sends and waits for `confirmed`.
    pub fn send(&self, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Signature, ClientError> {
        self.rpc.send_and_confirm_transaction(&self.sign(instructions, signers))
    }

    /// The bytecode of a standard program that lives in a single account.
    pub fn elf_of(&self, program: &str) -> Vec<u8> {
        self.rpc.get_account_data(&program.parse().unwrap()).unwrap()
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        // Has ended already in the tests of endings.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The standard programs the tests use.
pub const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
pub const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
pub const TOKEN_2022: &str = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
pub const ASSOCIATED_TOKEN: &str = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";

/// A memo, by any copy of that program.
pub fn memo(program: &Pubkey, text: &[u8]) -> Instruction {
    Instruction { program_id: *program, accounts: vec![], data: text.to_vec() }
}

/// The Clock sysvar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub slot: u64,
    pub unix_timestamp: i64,
}

/// Clock and SlotHashes as of one moment.
pub fn sysvars(net: &Localnet) -> (Clock, Vec<(u64, [u8; 32])>) {
    let keys = ["SysvarC1ock11111111111111111111111111111111", "SysvarS1otHashes111111111111111111111111111"];
    let accounts = net.rpc.get_multiple_accounts(&keys.map(|k| Pubkey::from_str(k).unwrap())).unwrap();
    let data = |i: usize| accounts[i].as_ref().expect("the sysvar has an account").data.clone();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let clock = data(0);
    let hashes = data(1);
    assert_eq!(hashes.len(), 8 + 512 * 40, "the account of SlotHashes always has room for 512 entries");
    let count = usize::try_from(word(&hashes, 0)).unwrap();
    let entries = hashes[8..8 + count * 40].chunks_exact(40).map(|e| (word(e, 0), e[8..].try_into().unwrap())).collect();
    (Clock { slot: word(&clock, 0), unix_timestamp: word(&clock, 32) as i64 }, entries)
}

/// Writes bytes to a file of the test's own folder, and gives its path as text.
pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A transaction as it goes over the wire, in base64.
pub fn encoded(transaction: &Transaction) -> String {
    BASE64_STANDARD.encode(bincode::serialize(transaction).unwrap())
}
