//! The agent as a whole: over real HTTP and with real files, with a chain made up for the test.

mod beacons;
mod entrances;
mod fake;
mod http;
mod tenants;
mod upkeep;
