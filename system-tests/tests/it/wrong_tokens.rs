//! Callers without a right token, on every route of both services, and messages without a right seal, on the queue of commands.
//!
//! The routes are found in the code, and their methods are asked of the running services, so a route without a case here fails.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use private_broker::PrivateBroker;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use system_tests::audit::user_events;
use system_tests::client::{Answer, http, user};
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

const SECRET: &str = "a secret of this test, and of nobody else";
const SCOPES: [&str; 5] = [
    "users:read",
    "users:write",
    "users:erase",
    "users:admin",
    "uuids:read",
];
const DEAD: &str = "users.dead";

/// A route, who may call it, and what its caller is answered.
#[derive(Debug, Clone, Copy)]
struct Case {
    part: Part,
    method: &'static str,
    path: &'static str,
    /// One of these is enough.
    scopes: &'static [&'static str],
    status: u16,
}

const fn case(
    part: Part,
    (method, path): (&'static str, &'static str),
    scopes: &'static [&'static str],
    status: u16,
) -> Case {
    Case {
        part,
        method,
        path,
        scopes,
        status,
    }
}

/// Every route that needs a token, in an order in which all can succeed.
const CASES: [Case; 16] = [
    case(Part::Serve, ("POST", "/"), &["users:write"], 201),
    case(Part::Serve, ("GET", "/"), &["users:read"], 200),
    case(Part::Serve, ("GET", "/{id}"), &["users:read"], 200),
    case(Part::Serve, ("PATCH", "/{id}"), &["users:write"], 204),
    // No command has this link.
    case(
        Part::Serve,
        ("GET", "/commands/{link}"),
        &["users:write", "users:erase"],
        404,
    ),
    case(Part::Serve, ("DELETE", "/{id}"), &["users:erase"], 204),
    // A right request has an answer without an end, so its parameter is wrong.
    case(Part::Serve, ("GET", "/events"), &["users:read"], 422),
    case(Part::Serve, ("GET", "/statistics"), &["users:read"], 200),
    case(Part::Serve, ("GET", "/operations/parked"), ADMIN, 200),
    case(
        Part::Serve,
        ("POST", "/operations/parked/retry"),
        ADMIN,
        204,
    ),
    // The body is one of another route.
    case(
        Part::Serve,
        ("POST", "/operations/parked/{stream}/skip"),
        ADMIN,
        422,
    ),
    case(
        Part::Serve,
        ("GET", "/operations/{read_model}/held"),
        ADMIN,
        200,
    ),
    // Nobody is held.
    case(
        Part::Serve,
        ("POST", "/operations/{read_model}/held/{id}/replay"),
        ADMIN,
        404,
    ),
    case(
        Part::Serve,
        ("POST", "/operations/{read_model}/held/{id}/drop"),
        ADMIN,
        422,
    ),
    case(Part::Uuids, ("GET", "/"), &["uuids:read"], 200),
    case(Part::Uuids, ("GET", "/{id}"), &["uuids:read"], 200),
];

const ADMIN: &[&str] = &["users:admin"];

/// The routes that every caller may use.
fn open(part: Part) -> &'static [&'static str] {
    if part == Part::Serve {
        &["/_healthz", "/_readyz", "/asyncapi.json", "/schemas/{name}"]
    } else {
        &["/_healthz", "/_readyz"]
    }
}

fn claims(scope: &str) -> Value {
    json!({
        "iss": "urn:users:issuer",
        "aud": "urn:users:services",
        "sub": "grace",
        "scope": scope,
        "exp": get_current_timestamp() + 300,
    })
}

fn signed(claims: &Value, secret: &str) -> Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes())?;
    Ok(encode(&Header::new(Algorithm::HS256), claims, &key)?)
}

fn with(name: &str, value: Value) -> Result<String> {
    let mut claims = claims(&SCOPES.join(" "));
    claims[name] = value;
    signed(&claims, SECRET)
}

/// Tokens with all scopes that nobody may be let in with, and what is wrong with each.
fn wrong_tokens() -> Result<Vec<(&'static str, Option<String>)>> {
    let all = claims(&SCOPES.join(" "));
    let valid = signed(&all, SECRET)?;
    let (head, rest) = valid.split_once('.').context("a header")?;
    let (body, signature) = rest.split_once('.').context("a body")?;
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = encoded(&json!({"alg": "none", "typ": "JWT"}));
    let now = get_current_timestamp();
    Ok(vec![
        ("none", None),
        ("garbage", Some("garbage".to_owned())),
        ("expired", Some(with("exp", json!(now - 3_600))?)),
        ("not valid yet", Some(with("nbf", json!(now + 3_600))?)),
        ("forged", Some(signed(&all, &SECRET.replace('a', "b"))?)),
        (
            "altered",
            Some(format!(
                "{head}.{}.{signature}",
                encoded(&claims("users:erase"))
            )),
        ),
        ("alg=none", Some(format!("{unsigned}.{body}."))),
        (
            "alg=none with a signature",
            Some(format!("{unsigned}.{body}.{signature}")),
        ),
        ("wrong audience", Some(with("aud", json!("urn:other"))?)),
        ("wrong issuer", Some(with("iss", json!("urn:other"))?)),
        ("no subject", Some(with("sub", Value::Null)?)),
    ])
}

/// A system that authenticates its callers.
async fn authenticating() -> Result<System> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&Part::WHOLE, broker, &url, "info")?;
    let secret = system.folder().join("auth.secret");
    std::fs::write(&secret, SECRET)?;
    for part in [Part::Serve, Part::Uuids] {
        system.set(part, "AUTH_SECRET_FILE", &secret.display().to_string())?;
    }
    for part in Part::WHOLE {
        system.start_part(part).await?;
    }
    system.ready().await?;
    Ok(system)
}

/// The paths in `resource("…")` below these folders, without code that is built for tests only.
fn paths(folders: &[&str]) -> Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = BTreeSet::new();
    for folder in folders {
        let code = code_below(&root.join(folder))?;
        for other in [".route(\"", "scope(\"", "#[get(", "#[post("] {
            ensure!(
                !code.contains(other),
                "{folder} declares a route by {other}"
            );
        }
        let found = code.split("resource(\"").skip(1);
        paths.extend(found.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    Ok(paths)
}

/// The code of all files below this folder, without comments, tests and spaces.
fn code_below(folder: &Path) -> Result<String> {
    let mut code = String::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            code += &code_below(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = text.lines().map(str::trim);
            code.extend(lines.filter(|line| !line.starts_with("//")));
        }
    }
    Ok(code.replace(' ', ""))
}

/// The routes of a running service: each path of its code with each method that the service allows.
async fn routes(system: &System, part: Part, folder: &str) -> Result<BTreeSet<(String, String)>> {
    let mut routes = BTreeSet::new();
    for path in paths(&[folder, "shared/web/src"])? {
        let asked =
            Answer::to(http()?.request(Method::OPTIONS, url(system, part, &concrete(&path, "1"))?));
        let asked = asked.await?.expect(204)?;
        let methods = asked
            .header("allow")
            .context("the allowed methods")?
            .split(", ");
        let methods = methods.filter(|method| !matches!(*method, "HEAD" | "OPTIONS"));
        routes.extend(methods.map(|method| (method.to_owned(), path.clone())));
    }
    Ok(routes)
}

fn concrete(path: &str, id: &str) -> String {
    path.replace("{id}", id)
        .replace("{link}", "nothing")
        .replace("{read_model}", "statistics")
        .replace("{stream}", "users-1")
        .replace("{name}", "user.created.v1")
        .replace("/events", "/events?user=nobody")
}

fn url(system: &System, part: Part, path: &str) -> Result<String> {
    Ok(format!(
        "http://{}{path}",
        system.address(part).context("an address")?
    ))
}

async fn call(system: &System, case: Case, id: &str, token: Option<&str>) -> Result<Answer> {
    let method: Method = case.method.parse()?;
    let request = http()?.request(
        method.clone(),
        url(system, case.part, &concrete(case.path, id))?,
    );
    let request = match case.method {
        "POST" => request.json(&user(&unique("ada"))),
        "PATCH" => request.json(&json!({"given_name": "Augusta"})),
        _ => request,
    };
    let request = token
        .into_iter()
        .fold(request, reqwest::RequestBuilder::bearer_auth);
    Answer::to(request).await
}

#[tokio::test]
async fn every_route_has_a_case() -> Result<()> {
    let system = authenticating().await?;
    for (part, folder) in [
        (Part::Serve, "users-service/src"),
        (Part::Uuids, "uuids-service/src"),
    ] {
        let cases = CASES.iter().filter(|case| case.part == part);
        let cases = cases.map(|case| (case.method.to_owned(), case.path.to_owned()));
        let open = open(part);
        let opened = open
            .iter()
            .map(|path| ("GET".to_owned(), (*path).to_owned()));
        let expected: BTreeSet<_> = cases.chain(opened).collect();
        let found = routes(&system, part, folder).await?;
        ensure!(
            found == expected,
            "{part:?} has {found:?}, cases are {expected:?}"
        );
        for path in open {
            Answer::to(http()?.get(url(&system, part, &concrete(path, "1"))?))
                .await?
                .expect(200)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_route_lets_a_caller_in_without_a_right_token_and_nothing_changes() -> Result<()> {
    let system = authenticating().await?;
    let writer = signed(&claims("users:write"), SECRET)?;
    let ada = call(&system, CASES[0], "", Some(&writer))
        .await?
        .expect(201)?
        .id()?;
    let before = user_events(&system.store()?).await?.len();
    for case in CASES {
        for (what, token) in wrong_tokens()? {
            let answer = call(&system, case, &ada, token.as_deref()).await?;
            ensure!(answer.status == 401, "{what}: {case:?} {answer:?}");
            ensure!(
                answer.header("www-authenticate").is_some(),
                "{what}: {answer:?}"
            );
        }
        let others = SCOPES
            .into_iter()
            .filter(|scope| !case.scopes.contains(scope));
        let others: Vec<_> = others.collect();
        for scopes in ["", &others.join(" ")] {
            let token = signed(&claims(scopes), SECRET)?;
            let answer = call(&system, case, &ada, Some(&token)).await?;
            ensure!(answer.status == 403, "{scopes:?}: {case:?} {answer:?}");
        }
    }
    let after = user_events(&system.store()?).await?.len();
    ensure!(before == after, "a refused caller changed something");
    // The control: with the right scope each route answers.
    for case in CASES {
        let id = if case.part == Part::Uuids {
            "4194304"
        } else {
            &ada
        };
        for scope in case.scopes {
            let token = signed(&claims(scope), SECRET)?;
            let answer = call(&system, case, id, Some(&token)).await?;
            ensure!(answer.status == case.status, "{scope}: {case:?} {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn plain_and_wrongly_sealed_commands_are_dead_letters_and_change_nothing() -> Result<()> {
    let system = authenticating().await?;
    let before = user_events(&system.store()?).await?.len();
    let create = json!({"command": "CreateUser", "data": user(&unique("ada"))}).to_string();
    let sealed = "application/vnd.users-service.sealed-command";
    let messages = [
        (
            "plain",
            "application/json",
            create.as_str(),
            "plain commands are refused",
        ),
        ("untyped", "", create.as_str(), "plain commands are refused"),
        ("plain-as-sealed", sealed, create.as_str(), "does not open"),
        ("garbage-as-sealed", sealed, "garbage", "does not open"),
        ("nothing-as-sealed", sealed, "", "does not open"),
    ];
    for (id, content_type, body, _) in messages {
        let properties = json!({"message_id": id, "content_type": content_type});
        system
            .publish("amq.default", "users", (properties, body))
            .await?;
    }
    let dead = wait::until("all messages are dead letters", || async {
        let dead = system.messages(DEAD).await?;
        ensure!(dead.len() == messages.len(), "{dead:?}");
        Ok(dead)
    })
    .await?;
    for (id, _, _, reason) in messages {
        let letter = dead
            .iter()
            .find(|letter| letter["properties"]["message_id"] == id);
        let found = letter.context(id)?["properties"]["headers"]["reason"].to_string();
        ensure!(found.contains(reason), "{id}: {found}");
    }
    let after = user_events(&system.store()?).await?.len();
    ensure!(before == after, "a refused message changed something");
    Ok(())
}
