//! Addresses of bundle servers, as an operator writes them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bundle::code::RestoreCode;
use serde::{Deserialize, Serialize};

/// Addresses in one setting.
pub const SERVERS_MAX: usize = 16;

/// `https://HOST[:PORT]`: the address of one bundle server. `https://` may be left out; the port is 443 by default, as
/// in every such address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Arc<reqwest::Url>);

/// A text that is no address of a bundle server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a server address: {why}")]
pub struct InvalidServerUrl {
    /// What was read, cut after 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl InvalidServerUrl {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        "write https://HOST or https://HOST:PORT, several separated by commas"
    }
}

impl ServerUrl {
    /// The addresses in a list separated by commas, each once, in the order written.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidServerUrl> {
        let mut servers: Vec<Self> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let server: Self = part.parse()?;
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        match servers.len() {
            0 => Err(invalid(text, "there is none in it")),
            1..=SERVERS_MAX => Ok(servers),
            _ => Err(invalid(text, "more than 16 addresses")),
        }
    }

    /// The address of `path`, which begins with `/`, on this server.
    pub fn at(&self, path: &str) -> reqwest::Url {
        let mut url = reqwest::Url::clone(&self.0);
        url.set_path(path);
        url
    }
}

/// Whether a text is a restore code, or most of one, that was typed into the wrong field: it must not be shown, kept or
/// asked of a name server. A host's name of that form can be written with `https://`.
pub fn is_like_code(text: &str) -> bool {
    let groups: Vec<&str> = text.trim().split(['-', ' ']).collect();
    let (last, others) = groups.split_last().expect("a split gives at least one part");
    let is_grouped = others.len() >= 3
        && (1..=4).contains(&last.len())
        && others.iter().all(|group| group.len() == 4)
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    is_grouped || text.parse::<RestoreCode>().is_ok()
}

impl FromStr for ServerUrl {
    type Err = InvalidServerUrl;
    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        if is_like_code(text) {
            return Err(invalid("[secret]", "it looks like a restore code, which is asked for next"));
        }
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = reqwest::Url::parse(&with_scheme).map_err(|_| invalid(text, "it cannot be read as a URL"))?;
        if url.scheme() != "https" {
            return Err(invalid(text, "bundle servers speak https only"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid(text, "it names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(text, "it may hold no user name or password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(text, "nothing may follow the host and port"));
        }
        Ok(Self(Arc::new(url)))
    }
}

fn invalid(text: &str, why: &'static str) -> InvalidServerUrl {
    InvalidServerUrl { text: text.chars().take(200).collect(), why }
}

impl TryFrom<String> for ServerUrl {
    type Error = InvalidServerUrl;
    fn try_from(text: String) -> Result<Self, InvalidServerUrl> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> String {
        url.to_string()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_are_written_with_commas() {
        let servers =
            ServerUrl::parse_list("https://a.example:8443, 10.0.2.2:7000,[fd00::1]:9,a.example:8443").unwrap();
        let texts: Vec<String> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["https://a.example:8443", "https://10.0.2.2:7000", "https://[fd00::1]:9"]);
    }

    #[test]
    fn what_is_no_server_is_refused_with_the_reason() {
        let reasons: Vec<String> = ["", "http://a", "https://", "https://u:p@a", "https://a/x", "https://a?x", "a b"]
            .into_iter()
            .map(|text| ServerUrl::parse_list(text).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(reasons.join("\n"));
    }

    #[test]
    fn a_restore_code_is_no_server_and_is_not_repeated() {
        for code in
            ["ABCD-EFGH-JKMN-PQRS-TVWX", "abcdefghjkmnpqrstvwx", "abcd-efgh-jkmn-pqrs-tvw", " ABCD EFGH JKMN PQRS"]
        {
            let error = ServerUrl::parse_list(&format!("a.example,{code}")).unwrap_err();
            assert!(!format!("{error:?} {error}").to_lowercase().contains("abcd"), "{error}");
            assert!(error.to_string().contains("restore code"), "{error}");
        }
        for host in ["rack-12-node", "bundle-server", "10.0.2.2:8443", "a.example", "https://abcd-efgh-jkmn-pqrs-tvwx"]
        {
            assert!(ServerUrl::parse_list(host).is_ok(), "{host}");
        }
    }
}
