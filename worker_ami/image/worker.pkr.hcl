# The worker's image on AWS: Debian 12 with what install.sh makes of it. README.md says how to build it.

variable "region" {
  type        = string
  description = "Where it is built, and where machines can be started from it."
}

variable "architecture" {
  type        = string
  default     = "amd64"
  description = "The amd64 or arm64 of the machines."
}

variable "gpu" {
  type        = bool
  default     = false
  description = "With NVIDIA's driver and container toolkit; amd64 only."
}

variable "kit" {
  type        = string
  default     = "build/worker-kit"
  description = "The directory that kit.sh has made."
}

locals {
  kind          = var.gpu ? "gpu" : "cpu"
  name          = "lamplighter-worker-${local.kind}-${var.architecture}"
  instance_type = var.gpu ? "g4dn.xlarge" : (var.architecture == "arm64" ? "c7g.large" : "c7i.large")
}

source "amazon-ebs" "worker" {
  region        = var.region
  instance_type = local.instance_type
  ssh_username  = "admin"

  source_ami_filter {
    # Debian's own account: https://wiki.debian.org/Cloud/AmazonEC2Image/Bookworm
    owners      = ["136693071363"]
    most_recent = true
    filters = {
      name                = "debian-12-${var.architecture}-*"
      architecture        = var.architecture == "arm64" ? "arm64" : "x86_64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  ami_name        = "${local.name}-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  ami_description = "Lamplighter worker on Debian 12"
  encrypt_boot    = true
  imds_support    = "v2.0"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.gpu ? 60 : 30
    iops                  = 3000
    throughput            = 250
    encrypted             = true
    delete_on_termination = true
  }

  run_tags = {
    Name = "${local.name}-build"
  }
  tags = {
    Name                       = local.name
    "lamplighter:image"        = local.kind
    "lamplighter:architecture" = var.architecture
    "lamplighter:base"         = "{{ .SourceAMIName }}"
  }
}

build {
  sources = ["source.amazon-ebs.worker"]

  provisioner "shell" {
    # The first boot's own apt would hold apt's lock.
    inline = ["cloud-init status --wait || true", "mkdir -m 0700 /tmp/kit"]
  }

  provisioner "file" {
    source      = "${var.kit}/"
    destination = "/tmp/kit"
  }

  provisioner "shell" {
    inline = [
      "sudo chmod 0755 /tmp/kit/install.sh",
      "sudo env LAMPLIGHTER_GPU=${var.gpu ? 1 : 0} /tmp/kit/install.sh",
      "sudo rm -rf /tmp/kit",
    ]
  }
}
