output "deployment" {
  description = "The deployment's name."
  value       = kubernetes_deployment_v1.longshore.metadata[0].name
}
