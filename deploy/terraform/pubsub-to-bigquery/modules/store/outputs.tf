output "url" {
  description = "Where the store is, for `--store` or LONGSHORE_HOME. It holds no password."
  value       = "postgres://${google_sql_user.longshore.name}@${google_sql_database_instance.store.private_ip_address}:5432/${google_sql_database.store.name}?sslmode=verify-ca"
}

output "certificate" {
  description = "The certificate that the server's own is checked against (PEM), for PGSSLROOTCERT. It is no secret."
  value       = nonsensitive(google_sql_database_instance.store.server_ca_cert[0].cert)
}

output "password_secret" {
  description = "The secret that holds the password, in full, for PGPASSWORD."
  value       = google_secret_manager_secret.password.id
}

output "password_secret_version" {
  description = "Its version."
  value       = google_secret_manager_secret_version.password.version
  # The password is of use once the database knows it.
  depends_on = [google_sql_user.longshore]
}

output "password" {
  description = "The password, on its way to somewhere else. It is not kept."
  value       = ephemeral.google_secret_manager_secret_version.password.secret_data
  ephemeral   = true
}
