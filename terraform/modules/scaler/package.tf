# Where the program comes from. A destroy needs nothing of it.

locals {
  downloaded = var.lambda_package.url == null ? null : "${path.root}/.terraform/haulage/${var.lambda_package.sha256}.zip"
  file       = var.lambda_package.url == null ? var.lambda_package.path : local.downloaded
  # A file that is not there is told of where the function is made.
  hash = var.lambda_package.sha256 != null ? local.base64 : try(filebase64sha256(var.lambda_package.path), null)

  # Terraform makes base64 of text only: three bytes, six digits, four characters.
  alphabet = split("", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  triples  = [for index in range(0, 66, 6) : parseint(substr("${coalesce(var.lambda_package.sha256, format("%064d", 0))}00", index, 6), 16)]
  base64 = "${substr(join("", flatten([for triple in local.triples : [
    local.alphabet[floor(triple / 262144) % 64], local.alphabet[floor(triple / 4096) % 64],
    local.alphabet[floor(triple / 64) % 64], local.alphabet[triple % 64],
  ]])), 0, 43)}="
}

resource "terraform_data" "download" {
  count = var.lambda_package.url == null ? 0 : 1

  triggers_replace = [var.name, var.lambda_architecture, var.lambda_package.url, var.lambda_package.sha256]

  provisioner "local-exec" {
    interpreter = ["sh", "-euc"]
    environment = { URL = var.lambda_package.url, SHA256 = var.lambda_package.sha256, FILE = local.downloaded }
    command     = <<-EOT
      mkdir -p "$(dirname "$FILE")"
      curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' --output "$FILE.part" "$URL"
      found="$( (sha256sum "$FILE.part" 2>/dev/null || shasum -a 256 "$FILE.part") | cut -d ' ' -f 1)"
      if [ "$found" != "$SHA256" ]; then
        rm "$FILE.part"
        echo "$URL has the sha256 $found, not $SHA256" >&2
        exit 1
      fi
      mv "$FILE.part" "$FILE"
    EOT
  }
}
