package names

// Commands of the worker: WorkerBinary COMMAND.
const (
	WorkerBinary       = "/usr/bin/cdi-worker"
	WorkerImport       = "import"
	WorkerUploadServer = "upload-server"
	WorkerCloneSource  = "clone-source"
)

// UID is the user, group and fsGroup of workers, and the owner of disk.img.
const UID = 107

// Ports.
const (
	// PortMetrics serves https://pod/metrics with a certificate of the worker's own making. The upload server has one port
	// for both.
	PortMetrics      = 8443
	PortUploadServer = 8443
	PortNodePull     = 8100
)

// Paths inside a worker's pod.
const (
	DataDir         = "/data"
	DiskImage       = "disk.img"
	DiskPath        = DataDir + "/" + DiskImage
	BlockDevice     = "/dev/cdi-block-volume"
	ScratchDir      = "/scratch"
	CertDir         = "/certs"
	ProxyCertDir    = "/proxycerts/"
	ExtraHeadersDir = "/extraheaders" // /N
	GoogleDir       = "/google"
	GoogleFile      = "/google/credentials.json"
	// SharedDir is where a node-pulled registry image (EnvPullMethod "node") is mounted as an image volume: its disk is the one
	// regular file below SharedDir/disk.
	SharedDir    = "/shared"
	TLSDir       = "/etc/tls" // upload server: tls.crt, tls.key, and ClientCAFile
	ClientCAFile = "ca.crt"
	CloneMount   = "/var/run/cdi/clone/source"
	Termination  = "/dev/termination-log"
	// JournalFile is the upload server's and importer's checkpoint, beside disk.img.
	JournalFile = ".virtctl-upload.json"
)

// Environment of importers. Values: see the constants that follow and the DataVolume's source.
const (
	EnvSource             = "IMPORTER_SOURCE"
	EnvEndpoint           = "IMPORTER_ENDPOINT"
	EnvContentType        = "IMPORTER_CONTENTTYPE"
	EnvImageSize          = "IMPORTER_IMAGE_SIZE"
	EnvAccessKeyID        = "IMPORTER_ACCESS_KEY_ID"
	EnvSecretKey          = "IMPORTER_SECRET_KEY"
	EnvCertDir            = "IMPORTER_CERT_DIR"
	EnvProxyCertDir       = "IMPORTER_PROXY_CERT_DIR"
	EnvInsecureTLS        = "INSECURE_TLS"
	EnvDiskID             = "IMPORTER_DISK_ID"
	EnvUUID               = "IMPORTER_UUID"
	EnvPullMethod         = "IMPORTER_PULL_METHOD"
	EnvReadyFile          = "IMPORTER_READY_FILE"
	EnvDoneFile           = "IMPORTER_DONE_FILE"
	EnvBackingFile        = "IMPORTER_BACKING_FILE"
	EnvThumbprint         = "IMPORTER_THUMBPRINT"
	EnvCurrentCheckpoint  = "IMPORTER_CURRENT_CHECKPOINT"
	EnvPreviousCheckpoint = "IMPORTER_PREVIOUS_CHECKPOINT"
	EnvFinalCheckpoint    = "IMPORTER_FINAL_CHECKPOINT"
	EnvChecksum           = "IMPORTER_CHECKSUM"
	EnvArchitecture       = "IMPORTER_REGISTRY_IMAGE_ARCHITECTURE"
	EnvExtraHeader        = "IMPORTER_EXTRA_HEADER_" // N
	EnvGoogleCredentials  = "GOOGLE_APPLICATION_CREDENTIALS"
	EnvHTTPProxy          = "http_proxy"
	EnvHTTPSProxy         = "https_proxy"
	EnvNoProxy            = "no_proxy"
	EnvCacheMode          = "CACHE_MODE"
	CacheModeTryNone      = "TRYNONE"
)

// Environment of all workers.
const (
	EnvOwnerUID           = "OWNER_UID"
	EnvFilesystemOverhead = "FILESYSTEM_OVERHEAD"
	EnvPreallocation      = "PREALLOCATION" // "true" or "false"
	EnvVolumeMode         = "VOLUME_MODE"   // "filesystem" or "block", clone source only
	EnvTLSCiphers         = "TLS_CIPHERS"
	EnvTLSMinVersion      = "TLS_MIN_VERSION"
)

// Environment of upload servers.
const (
	EnvTLSKeyFile      = "TLS_KEY_FILE"
	EnvTLSCertFile     = "TLS_CERT_FILE"
	EnvClientCertFile  = "CLIENT_CERT_FILE" // PEM of the authority that signs clients
	EnvClientName      = "CLIENT_NAME"      // the CN a client's certificate must have
	EnvUploadImageSize = "UPLOAD_IMAGE_SIZE"
	EnvDestination     = "DESTINATION" // DiskPath or BlockDevice
	EnvDeadline        = "DEADLINE"    // RFC 3339: the server ends then with deadlinePassed, because its certificate does
)

// Environment of clone sources.
const (
	EnvClientKey    = "CLIENT_KEY"     // PEM
	EnvClientCert   = "CLIENT_CERT"    // PEM
	EnvServerCACert = "SERVER_CA_CERT" // PEM
	EnvUploadURL    = "UPLOAD_URL"
	EnvMountPoint   = "MOUNT_POINT" // directory or device
)

// Sources: values of AnnSource and EnvSource.
const (
	SourceHTTP     = "http"
	SourceS3       = "s3"
	SourceGCS      = "gcs"
	SourceGlance   = "glance"
	SourceNone     = "none" // a blank disk
	SourceRegistry = "registry"
	SourceImageio  = "imageio"
	SourceVDDK     = "vddk"
)

// Upload paths and headers of the upload server and the proxy.
const (
	PathUpload          = "/v1beta1/upload"
	PathUploadAsync     = "/v1beta1/upload-async"
	PathUploadArchive   = "/v1beta1/upload-archive"
	PathUploadForm      = "/v1beta1/upload-form"
	PathUploadFormAsync = "/v1beta1/upload-form-async"
	PathUploadDirect    = "/v1beta1/upload-direct"
	PathUploadResult    = "/v1beta1/upload-result"
	PathHealth          = "/healthz"
	PathMetrics         = "/metrics"
	HeaderContentType   = "x-cdi-content-type"
	ContentFilesystem   = "filesystem-clone"
	ContentBlockdevice  = "blockdevice-clone"
	FormField           = "file"
	HeaderOffset        = "Upload-Offset"
	HeaderLength        = "Upload-Length"
	HeaderIdentity      = "Upload-Identity"
	HeaderDigest        = "Repr-Digest"
	// Who means to come directly says with which key; the server answers with its own, and where it is.
	HeaderClientKey = "Upload-Client-Key"
	HeaderServerKey = "Upload-Server-Key"
	HeaderAddress   = "Upload-Address"
)

// Metrics of workers, with the label ownerUID.
const (
	MetricImportProgress = "kubevirt_cdi_import_progress_total"
	MetricCloneProgress  = "kubevirt_cdi_clone_progress_total"
	MetricOwnerLabel     = "ownerUID"
)
