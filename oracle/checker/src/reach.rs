//! Which addresses a stranger's endpoint may name. On a public network an endpoint inside this machine's own network is an
//! attempt to have the checker ask things there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use thiserror::Error;
use url::Host;

/// Which addresses may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Those of the public internet.
    Public,
    /// Those of this machine and of private networks, too: for local networks. Never link-local ones (169.254.169.254 tells
    /// a cloud machine's secrets), multicast or unspecified.
    Private,
}

/// Why an endpoint is not asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// The text is no address of an agent.
    #[error("the endpoint {endpoint:?} is no http or https address: {reason}")]
    Invalid {
        /// The text.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The address is one that is not asked.
    #[error("{0} is not an address of the public internet (a local network allows it by --allow-private-endpoints)")]
    Forbidden(IpAddr),
}

impl Policy {
    /// Whether this address may be asked.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.allows_v4(v4),
            IpAddr::V6(v6) => match embedded(v6) {
                // Another spelling of an IPv4 address leads to that one.
                Some(v4) => self.allows_v4(v4),
                None => self.allows_v6(v6),
            },
        }
    }

    fn allows_v4(self, ip: Ipv4Addr) -> bool {
        let [a, b, c, _] = ip.octets();
        if a == 0 || ip.is_link_local() || ip.is_multicast() || a >= 240 {
            return false;
        }
        let private = ip.is_private() || ip.is_loopback() || (a == 100 && (64..128).contains(&b));
        // Documentation, benchmarks, and protocol assignments.
        let special = ip.is_documentation() || (a == 198 && (18..20).contains(&b)) || (a, b, c) == (192, 0, 0);
        self == Self::Private || !(private || special)
    }

    fn allows_v6(self, ip: Ipv6Addr) -> bool {
        let first = ip.segments()[0];
        if ip.is_unspecified() || ip.is_multicast() || first & 0xffc0 == 0xfe80 {
            return false;
        }
        // Only 2000::/3 is handed out; 2001:db8::/32 is documentation.
        let public = first & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0xdb8];
        let private = ip.is_loopback() || first & 0xfe00 == 0xfc00;
        public || (self == Self::Private && private)
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 and 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

/// The address of an agent's interface below its registered endpoint.
///
/// # Errors
/// The endpoint is no http(s) address, holds more than host, port and path, or names an address that the policy forbids.
pub fn url(endpoint: &str, path: &str, policy: Policy) -> Result<Url, EndpointError> {
    let invalid = |reason: String| EndpointError::Invalid { endpoint: endpoint.to_owned(), reason };
    let mut url = Url::parse(endpoint).map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("another scheme".into()));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("it holds more than host, port and path".into()));
    }
    // Addresses that are written out; names are looked up by the resolver below.
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
        None => return Err(invalid("no host".into())),
    };
    if let Some(ip) = literal.filter(|ip| !policy.allows(*ip)) {
        return Err(EndpointError::Forbidden(ip));
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}{path}"));
    Ok(url)
}

/// Looks names up and leaves out addresses that the policy forbids: what is connected to is what was checked.
#[derive(Clone, Copy, Debug)]
pub struct Resolver(pub Policy);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            // A relay's agents are names under its own; not every resolver knows that those under `localhost` are this machine.
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = if name == "localhost" || name.ends_with(".localhost") {
                vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]
            } else {
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect()
            };
            let refused = found.first().map(|address| address.ip());
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|address| policy.allows(address.ip())).collect();
            match refused {
                Some(ip) if allowed.is_empty() => Err(EndpointError::Forbidden(ip).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_and_nothing_more() {
        let of = |text| url(text, "/v1/liveness", Policy::Private).map(|url| url.to_string());
        assert_eq!(of("http://127.0.0.1:7070").unwrap(), "http://127.0.0.1:7070/v1/liveness");
        assert_eq!(of("https://relay.example/agents/7/").unwrap(), "https://relay.example/agents/7/v1/liveness");
        for bad in [
            "",
            "127.0.0.1:7070",
            "file:///etc/passwd",
            "gopher://host/",
            "http://",
            "http://user:pass@host",
            "http://host/?x=1",
            "http://host/#x",
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]:80",
            "http://host name/",
            "\u{0}",
        ] {
            assert!(matches!(of(bad), Err(EndpointError::Invalid { .. })), "{bad}");
        }
    }

    #[test]
    fn only_the_public_internet_is_asked_unless_allowed() {
        let of = |host: &str, policy| url(&format!("http://{host}/"), "/x", policy);
        for host in ["1.1.1.1", "93.184.216.34", "[2606:4700::1111]", "[::ffff:1.1.1.1]"] {
            of(host, Policy::Public).unwrap();
        }
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "[::1]",
            "[fc00::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "198.18.0.1",
        ] {
            assert!(matches!(of(host, Policy::Public), Err(EndpointError::Forbidden(_))), "{host}");
            of(host, Policy::Private).unwrap();
        }
        for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]"]
        {
            for policy in [Policy::Public, Policy::Private] {
                assert!(matches!(of(host, policy), Err(EndpointError::Forbidden(_))), "{host}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_where_it_is_looked_up() {
        let look = |policy| Resolver(policy).resolve("agent.localhost".parse().unwrap());
        assert!(look(Policy::Public).await.is_err());
        assert!(look(Policy::Private).await.unwrap().count() > 0);
    }
}
