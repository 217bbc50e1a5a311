//! Programs: the standard ones, those loaded at start, and what `getProgramAccounts` finds.

mod support;

use serde_json::{Value, json};
use solana_instruction::{AccountMeta, Instruction};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_system_interface::instruction::create_account;
use support::{ASSOCIATED_TOKEN, Localnet, MEMO, SOL, TOKEN, TOKEN_2022, file, free_port, memo};

/// Bytes of a mint without extensions, and of a token account.
const MINT: u64 = 82;
const TOKEN_ACCOUNT: u64 = 165;

/// `InitializeMint2` of both token programs, without a freeze authority.
fn initialize_mint(program: &Pubkey, mint: &Pubkey, authority: &Pubkey, decimals: u8) -> Instruction {
    let mut data = vec![20, decimals];
    data.extend_from_slice(authority.as_ref());
    data.push(0);
    Instruction { program_id: *program, accounts: vec![AccountMeta::new(*mint, false)], data }
}

fn new_mint(net: &Localnet, payer: &Keypair, program: &Pubkey, authority: &Pubkey, decimals: u8) -> Pubkey {
    let mint = Keypair::new();
    let rent = net.rpc.get_minimum_balance_for_rent_exemption(MINT as usize).unwrap();
    let create = create_account(&payer.pubkey(), &mint.pubkey(), rent, MINT, program);
    net.send(&[create, initialize_mint(program, &mint.pubkey(), authority, decimals)], &[payer, &mint]).unwrap();
    mint.pubkey()
}

/// The associated token account, made by its program; returns its address.
fn new_token_account(net: &Localnet, payer: &Keypair, program: &Pubkey, mint: &Pubkey) -> Pubkey {
    let associated: Pubkey = ASSOCIATED_TOKEN.parse().unwrap();
    let (address, _) =
        Pubkey::find_program_address(&[payer.pubkey().as_ref(), program.as_ref(), mint.as_ref()], &associated);
    let accounts = vec![
        AccountMeta::new(payer.pubkey(), true),
        AccountMeta::new(address, false),
        AccountMeta::new_readonly(payer.pubkey(), false),
        AccountMeta::new_readonly(*mint, false),
        AccountMeta::new_readonly(Pubkey::default(), false),
        AccountMeta::new_readonly(*program, false),
    ];
    net.send(&[Instruction { program_id: associated, accounts, data: vec![1] }], &[payer]).unwrap();
    address
}

/// `MintTo` of both token programs.
fn mint_to(program: &Pubkey, mint: &Pubkey, account: &Pubkey, authority: &Pubkey, amount: u64) -> Instruction {
    let accounts =
        vec![AccountMeta::new(*mint, false), AccountMeta::new(*account, false), AccountMeta::new_readonly(*authority, true)];
    Instruction { program_id: *program, accounts, data: [&[7u8][..], &amount.to_le_bytes()].concat() }
}

#[test]
fn both_token_programs_and_associated_accounts_work() {
    let net = Localnet::start(&[]);
    let payer = net.funded(SOL);
    for program in [TOKEN, TOKEN_2022] {
        let program: Pubkey = program.parse().unwrap();
        assert!(net.rpc.get_account(&program).unwrap().executable);
        let mint = new_mint(&net, &payer, &program, &payer.pubkey(), 6);
        let account = new_token_account(&net, &payer, &program, &mint);
        net.send(&[mint_to(&program, &mint, &account, &payer.pubkey(), 42_000_000)], &[&payer]).unwrap();
        let balance = net.rpc.get_token_account_balance(&account).unwrap();
        assert_eq!((balance.amount.as_str(), balance.decimals), ("42000000", 6), "{program}");
    }
}

#[test]
fn program_accounts_are_found_by_size_and_bytes_and_cut_to_a_slice() {
    let net = Localnet::start(&[]);
    let payer = net.funded(SOL);
    let program: Pubkey = TOKEN.parse().unwrap();
    let (first, second) = (Keypair::new().pubkey(), Keypair::new().pubkey());
    let wanted: Vec<Pubkey> = (1..=3).map(|decimals| new_mint(&net, &payer, &program, &first, decimals)).collect();
    let other = new_mint(&net, &payer, &program, &second, 9);
    new_token_account(&net, &payer, &program, &other);

    let find = |filters: Value, slice: Option<(u64, u64)>| {
        let mut config = json!({"encoding": "base64", "filters": filters, "withContext": true});
        if let Some((offset, length)) = slice {
            config["dataSlice"] = json!({"offset": offset, "length": length});
        }
        net.call("getProgramAccounts", json!([TOKEN, config]))["value"].as_array().unwrap().clone()
    };
    // The authority is at 4, after the tag of the option that holds it; the decimals are at 44.
    let by_authority = json!([{"dataSize": MINT}, {"memcmp": {"offset": 4, "bytes": first.to_string()}}]);
    let found = find(by_authority, Some((44, 1)));
    let mut keys: Vec<&str> = found.iter().map(|a| a["pubkey"].as_str().unwrap()).collect();
    let mut expected: Vec<String> = wanted.iter().map(Pubkey::to_string).collect();
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let mut slices: Vec<&Value> = found.iter().map(|a| &a["account"]["data"][0]).collect();
    slices.sort_unstable_by_key(|s| s.as_str());
    assert_eq!(slices, ["AQ==", "Ag==", "Aw=="]);
    assert!(found.iter().all(|a| a["account"]["space"] == MINT));

    let by_decimals =
        find(json!([{"dataSize": MINT}, {"memcmp": {"offset": 44, "bytes": "CQ==", "encoding": "base64"}}]), None);
    assert!(by_decimals.iter().any(|a| a["pubkey"] == other.to_string()));
    assert_eq!(find(json!([{"dataSize": TOKEN_ACCOUNT}]), None).len(), 1);
    assert_eq!(find(json!([{"memcmp": {"offset": 4, "bytes": Keypair::new().pubkey().to_string()}}]), None).len(), 0);
}

#[test]
fn a_program_and_funds_are_there_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let elf = Localnet::start(&[]).elf_of(MEMO);
    let path = file(folder.path(), "memo.so", &elf);
    let (id, is_final, authority, rich) =
        (Keypair::new().pubkey(), Keypair::new().pubkey(), Keypair::new().pubkey(), Keypair::new());
    let fund = format!("{}=1234.000000001", rich.pubkey());
    let net = Localnet::start(&[
        "--program",
        &format!("{id}={path}"),
        "--upgrade-authority",
        &authority.to_string(),
        "--fund",
        &fund,
    ]);
    assert_eq!(net.ready["programs"], json!([id.to_string()]));
    assert_eq!(net.rpc.get_balance(&rich.pubkey()).unwrap(), 1_234 * SOL + 1);

    let signature = net.send(&[memo(&id, b"hello")], &[&rich]).unwrap();
    let transaction = net.call("getTransaction", json!([signature.to_string(), {"commitment": "confirmed"}]));
    let logs = transaction["meta"]["logMessages"].to_string();
    assert!(logs.contains(&format!("Program {id} success")) && logs.contains("hello"), "{logs}");

    let data = net.call("getAccountInfo", json!([id.to_string(), {"encoding": "jsonParsed"}]));
    let programdata = data["value"]["data"]["parsed"]["info"]["programData"].as_str().unwrap().to_owned();
    let header = net.call("getAccountInfo", json!([programdata, {"encoding": "jsonParsed"}]));
    assert_eq!(header["value"]["data"]["parsed"]["info"]["authority"], authority.to_string());
    drop(net);

    // Without an authority the program is final, and works as well.
    let net = Localnet::start_on(free_port(), &["--program", &format!("{is_final}={path}"), "--fund", &fund]);
    let programdata =
        Pubkey::find_program_address(&[is_final.as_ref()], &"BPFLoaderUpgradeab1e11111111111111111111111".parse().unwrap())
            .0;
    let header = net.call("getAccountInfo", json!([programdata.to_string(), {"encoding": "jsonParsed"}]));
    assert_eq!(header["value"]["data"]["parsed"]["info"]["authority"], Value::Null);
    net.send(&[memo(&is_final, b"hello")], &[&rich]).unwrap();
}
