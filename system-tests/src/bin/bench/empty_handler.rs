//! An actix-web server that does nothing: the most that HTTP and the generator let through on this machine.

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};

/// What it answers, about as long as the services' answers.
pub(crate) const BODY: &str = r#"{"data":["1509466340062097408"]}"#;

async fn answer() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(BODY)
}

/// Serves until the process is killed, and says where in the form of the services' log line.
#[actix_web::main]
pub(crate) async fn run() -> Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::get().to(answer)));
    let server = server.bind(("127.0.0.1", 0))?;
    let address = *server.addrs().first().context("bound")?;
    println!(r#"{{"fields":{{"message":"listening","address":"{address}"}}}}"#);
    Ok(server.run().await?)
}
