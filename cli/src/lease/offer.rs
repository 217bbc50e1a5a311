//! Containers that take leases, and which of them fit.

use clap::Args;
use datagalax::{
    constants::SHORTEST_LEASE,
    state::{Block, Container, GpuClass},
};
use datagalax_client::Address;

use super::{
    history::{self, Measured},
    size,
};
use crate::commands::{ath, unpadded};

/// Epochs of measured availability that an offer shows.
const SHOWN: usize = 8;

/// A container that takes a lease now.
#[derive(Clone)]
pub struct Offer {
    /// Its address.
    pub address: Address,
    /// What it says of itself.
    pub container: Box<Container>,
    /// Id and name of its class, and the least memory of a unit, bytes.
    pub class: (u16, String, u64),
    /// Where it says it is.
    pub region: String,
    /// What checkers measured lately, the newest first.
    pub recent: Vec<Measured>,
}

impl Offer {
    /// The offer of a container.
    ///
    /// # Errors
    /// Why it takes no lease now.
    pub fn of(
        address: Address,
        container: &Container,
        block: &Block,
        class: Option<&GpuClass>,
    ) -> Result<Self, &'static str> {
        let row = &block.rows[usize::from(container.row)];
        if container.lease != Address::default() {
            return Err("it is leased now");
        }
        if container.accepting != 1 {
            return Err("its provider has it take no new leases");
        }
        if container.status != 0 {
            return Err("it is halted because stake was taken from it");
        }
        if !row.is_live() {
            return Err("it is not live: its committees have not found it good yet, or it is leaving");
        }
        if row.is_accused() {
            return Err("a case of dishonesty is pending against it");
        }
        Ok(Self {
            address,
            container: Box::new(*container),
            class: (
                container.class,
                class.map(|c| c.name().to_owned()).unwrap_or_default(),
                class.map_or(0, |c| c.terms.minimum_vram),
            ),
            region: unpadded(&container.region),
            recent: history::recent(block, container.row, SHOWN),
        })
    }

    /// What it says of maintenance that touches a lease of so many seconds from now on: its start and end, seconds.
    pub fn maintenance(&self, now: i64, seconds: u32) -> Option<(i64, i64)> {
        let (start, end) = (self.container.maintenance_start, self.container.maintenance_end);
        (start < now.saturating_add(i64::from(seconds)) && now < end).then_some((start, end))
    }

    /// Shortest lease that it takes, seconds.
    pub fn least_seconds(&self) -> u32 {
        self.container.minimum_lease.max(SHORTEST_LEASE)
    }

    /// Where it says it is, as degrees; nothing when it does not.
    pub fn place(&self) -> Option<String> {
        let (latitude, longitude) = (self.container.latitude, self.container.longitude);
        let degrees = |hundredths: i16, positive: char, negative: char| {
            let (whole, part) = (hundredths.unsigned_abs() / 100, hundredths.unsigned_abs() % 100);
            format!("{whole}.{part:02} {}", if hundredths < 0 { negative } else { positive })
        };
        let known = (latitude, longitude) != (0, 0);
        known.then(|| format!("{}, {}", degrees(latitude, 'N', 'S'), degrees(longitude, 'E', 'W')))
    }
}

/// What a container must have.
#[derive(Args, Clone, Debug, Default)]
pub struct Wanted {
    /// Only of this class, by name or id (`datagalax class list`)
    #[arg(long, value_name = "NAME|ID")]
    pub class: Option<String>,
    /// Only with at least so many GPUs (units of its class)
    #[arg(long, value_name = "COUNT")]
    pub gpus: Option<u8>,
    /// Only with at least so much memory a GPU, such as 24GiB
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    pub vram: Option<u64>,
    /// Only in this region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Only at most so much an hour, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    pub max_price: Option<u64>,
}

impl Wanted {
    /// What of it an offer does not have, for people; `None` when it has all.
    pub fn missing(&self, offer: &Offer) -> Option<&'static str> {
        let (id, name, memory) = &offer.class;
        let class = |wanted: &String| wanted.eq_ignore_ascii_case(name) || wanted.parse() == Ok(*id);
        let checks = [
            (self.class.as_ref().is_none_or(class), "--class"),
            (self.gpus.is_none_or(|least| offer.container.gpus >= least), "--gpus"),
            (self.vram.is_none_or(|least| *memory >= least), "--vram"),
            (self.region.as_ref().is_none_or(|region| region.eq_ignore_ascii_case(&offer.region)), "--region"),
            (self.max_price.is_none_or(|most| offer.container.price_per_hour <= most), "--max-price"),
        ];
        checks.into_iter().find(|(has, _)| !has).map(|(_, option)| option)
    }
}

/// The offers that have all that is wanted, the cheapest first.
pub fn fitting(mut offers: Vec<Offer>, wanted: &Wanted) -> Vec<Offer> {
    offers.retain(|offer| wanted.missing(offer).is_none());
    offers.sort_by_key(|offer| (offer.container.price_per_hour, offer.address));
    offers
}

/// The cheapest `count` of the offers for a lease of so many seconds, `shuffled` breaking ties: two users who look at the same
/// moment should not reach for the same container.
///
/// # Errors
/// How many there are, and which option to loosen.
pub fn choose(
    offers: &[Offer],
    wanted: &Wanted,
    seconds: u32,
    count: usize,
    mut shuffled: impl FnMut() -> u64,
) -> Result<Vec<Offer>, String> {
    let mut fit: Vec<(u64, u64, &Offer)> = Vec::new();
    let (mut narrow, mut short) = (Vec::new(), None::<u32>);
    for offer in offers {
        match wanted.missing(offer) {
            Some(option) => narrow.push(option),
            None if offer.least_seconds() > seconds => {
                short = Some(short.map_or(offer.least_seconds(), |least| least.min(offer.least_seconds())));
            }
            None => fit.push((offer.container.price_per_hour, shuffled(), offer)),
        }
    }
    if fit.len() < count {
        return Err(too_few(offers.len(), fit.len(), count, narrow, short));
    }
    fit.sort_by_key(|(price, tie, _)| (*price, *tie));
    Ok(fit.into_iter().take(count).map(|(_, _, offer)| offer.clone()).collect())
}

fn too_few(all: usize, fit: usize, count: usize, mut narrow: Vec<&str>, short: Option<u32>) -> String {
    if all == 0 {
        return "no container takes a lease now: look again later with `datagalax offers`".to_owned();
    }
    let mut text = format!("{fit} of the {all} containers that take leases now fit, {count} wanted");
    narrow.sort_unstable();
    narrow.dedup();
    if !narrow.is_empty() {
        text += &format!(": loosen {}", narrow.join(", "));
    }
    if let Some(least) = short {
        text += &format!("; with `--for {least}s` or longer there are more");
    }
    text + " (`datagalax offers` shows all)"
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::state::Row;

    use super::*;
    use crate::commands::padded;

    fn address(n: u8) -> Address {
        Address::new_from_array([n; 32])
    }

    fn class() -> GpuClass {
        let mut class = GpuClass::zeroed();
        (class.id, class.name, class.terms.minimum_vram) = (3, padded("H100-80G").unwrap(), 80 << 30);
        class
    }

    fn container(price: u64) -> Container {
        let mut container = Container::zeroed();
        (container.accepting, container.gpus, container.class) = (1, 2, 3);
        (container.price_per_hour, container.minimum_lease) = (price, 1_200);
        container.region = padded("eu-west").unwrap();
        container
    }

    fn block() -> Box<Block> {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        block.rows[0].status = Row::LIVE;
        block
    }

    fn offers(prices: &[u64]) -> Vec<Offer> {
        let of = |(n, price): (usize, &u64)| Offer::of(address(n as u8), &container(*price), &block(), Some(&class()));
        prices.iter().enumerate().map(|one| of(one).unwrap()).collect()
    }

    #[test]
    fn only_what_the_program_would_lease_is_offered() {
        assert_eq!(offers(&[5]).len(), 1);
        let refused = |change: &dyn Fn(&mut Container, &mut Block)| {
            let (mut container, mut block) = (container(5), block());
            change(&mut container, &mut block);
            Offer::of(address(0), &container, &block, None).err().unwrap()
        };
        assert!(refused(&|c, _| c.accepting = 0).contains("no new leases"));
        assert!(refused(&|c, _| c.status = 1).contains("halted"));
        assert!(refused(&|c, _| c.lease = address(9)).contains("leased"));
        assert!(refused(&|_, b| b.rows[0].status = Row::CHECKING).contains("not live"));
        assert!(refused(&|_, b| b.rows[0].flags = Row::FALLING).contains("not live"));
        assert!(refused(&|_, b| b.rows[0].flags = Row::ACCUSED).contains("case"));
    }

    #[test]
    fn filters_name_what_is_missing_and_the_cheapest_comes_first() {
        let all = offers(&[5, 3, 4]);
        let by =
            |wanted: &Wanted| fitting(all.clone(), wanted).iter().map(|o| o.container.price_per_hour).collect::<Vec<_>>();
        assert_eq!(by(&Wanted::default()), [3, 4, 5]);
        assert_eq!(by(&Wanted { max_price: Some(4), ..Wanted::default() }), [3, 4]);
        for class in ["3", "h100-80g"] {
            assert_eq!(by(&Wanted { class: Some(class.into()), ..Wanted::default() }).len(), 3);
        }
        let missing = |wanted: Wanted| wanted.missing(&all[0]);
        assert_eq!(missing(Wanted { class: Some("cpu".into()), ..Wanted::default() }), Some("--class"));
        assert_eq!(missing(Wanted { gpus: Some(3), ..Wanted::default() }), Some("--gpus"));
        assert_eq!(missing(Wanted { vram: Some((80 << 30) + 1), ..Wanted::default() }), Some("--vram"));
        assert_eq!(missing(Wanted { region: Some("us".into()), ..Wanted::default() }), Some("--region"));
        assert_eq!(missing(Wanted { region: Some("EU-west".into()), ..Wanted::default() }), None);
    }

    #[test]
    fn choosing_takes_the_cheapest_and_says_what_stands_in_the_way() {
        let all = offers(&[5, 3, 3]);
        let chosen = |wanted: &Wanted, seconds, count| {
            let mut ties = [2u64, 1, 0].into_iter();
            let chosen = choose(&all, wanted, seconds, count, || ties.next().unwrap())?;
            Ok::<_, String>(chosen.iter().map(|o| o.address).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&Wanted::default(), 3_600, 2), Ok(vec![address(2), address(1)]));
        let error = chosen(&Wanted { max_price: Some(4), ..Wanted::default() }, 3_600, 3).unwrap_err();
        assert!(error.starts_with("2 of the 3") && error.contains("loosen --max-price"), "{error}");
        let error = chosen(&Wanted::default(), 600, 1).unwrap_err();
        assert!(error.contains("--for 1200s"), "{error}");
        assert!(choose(&[], &Wanted::default(), 600, 1, || 0).err().unwrap().contains("datagalax offers"));
    }

    #[test]
    fn maintenance_counts_when_it_touches_the_lease() {
        let mut offer = offers(&[1]).remove(0);
        (offer.container.maintenance_start, offer.container.maintenance_end) = (1_000, 2_000);
        assert_eq!(
            [(0, 1_000), (0, 1_001), (1_999, 600), (2_000, 600)].map(|(now, s)| offer.maintenance(now, s).is_some()),
            [false, true, true, false]
        );
    }

    #[test]
    fn a_place_reads_as_degrees() {
        let mut offer = offers(&[1]).remove(0);
        assert_eq!(offer.place(), None);
        (offer.container.latitude, offer.container.longitude) = (5_252, -1_305);
        assert_eq!(offer.place().unwrap(), "52.52 N, 13.05 W");
    }
}
