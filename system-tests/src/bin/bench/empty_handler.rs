//! An actix-web server with an empty handler. It shows the most that HTTP and the generator can do on this machine.

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};

/// The body of each answer, about as long as those of the services.
pub(crate) const BODY: &str = r#"{"data":["1509466340062097408"]}"#;

async fn answer() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(BODY)
}

/// Serves until the process is killed. Prints its address in the format of the services' logs.
#[actix_web::main]
pub(crate) async fn run() -> Result<()> {
    let server = HttpServer::new(|| App::new().route("/", web::get().to(answer)));
    let server = server.bind(("127.0.0.1", 0))?;
    let address = *server.addrs().first().context("the server is bound")?;
    println!(r#"{{"fields":{{"message":"listening","address":"{address}"}}}}"#);
    Ok(server.run().await?)
}
