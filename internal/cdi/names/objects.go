package names

// Objects of an installation.
const (
	DeploymentOperator    = "cdi-operator"
	DeploymentController  = "cdi-deployment"
	DeploymentAPIServer   = "cdi-apiserver"
	DeploymentUploadProxy = "cdi-uploadproxy"

	ServiceAPI         = "cdi-api"
	ServiceUploadProxy = "cdi-uploadproxy"
	ServicePrometheus  = "cdi-prometheus-metrics"

	AccountOperator    = "cdi-operator"
	AccountController  = "cdi-sa"
	AccountAPIServer   = "cdi-apiserver"
	AccountUploadProxy = "cdi-uploadproxy"
	AccountCronJob     = "cdi-cronjob"

	// CDIConfig is the name of the one CDIConfig, CDI of the custom resource an installation creates.
	CDIConfig = "config"
	CDI       = "cdi"

	// Certificates: the four authorities (kubernetes.io/tls Secrets tls.crt, tls.key) and their bundles (ConfigMaps
	// with BundleKey), and the leaves.
	SecretAPISigner          = "cdi-apiserver-signer"
	SecretProxySigner        = "cdi-uploadproxy-signer"
	SecretUploadSigner       = "cdi-uploadserver-signer"
	SecretUploadClientSigner = "cdi-uploadserver-client-signer"
	SecretAPICert            = "cdi-apiserver-server-cert"
	SecretProxyCert          = "cdi-uploadproxy-server-cert"
	SecretUploadClientCert   = "cdi-uploadserver-client-cert"
	BundleAPI                = "cdi-apiserver-signer-bundle"
	BundleProxy              = "cdi-uploadproxy-signer-bundle"
	BundleUpload             = "cdi-uploadserver-signer-bundle"
	BundleUploadClient       = "cdi-uploadserver-client-signer-bundle"
	BundleKey                = "ca-bundle.crt"

	// SecretSigningKey holds the key of upload and clone tokens, in the two keys that follow.
	SecretSigningKey   = "cdi-api-signing-key"
	SigningKeyPrivate  = "id_rsa"
	SigningKeyPublic   = "id_rsa.pub"
	TokenIssuerAPI     = "cdi-apiserver"
	TokenIssuerClone   = "cdi-deployment" // long-lived clone tokens
	CertificateOrg     = "cdi.kubevirt.io"
	UploadClientName   = "client.upload-server.cdi.kubevirt.io"
	ConfigMapVDDK      = "v2v-vmware"
	ConfigMapVDDKKey   = "vddk-init-image"
	AnnCertNotBefore   = "auth.openshift.io/certificate-not-before"
	AnnCertNotAfter    = "auth.openshift.io/certificate-not-after"
	AnnCertIssuer      = "auth.openshift.io/certificate-issuer"
	LeaseController    = "cdi-controller"
	TrustedProxyMapKey = "ca.pem"
	// SecretKeyUser and SecretKeyPassword are the keys of a source's Secret: user and password, or access and secret key.
	SecretKeyUser     = "accessKeyId"
	SecretKeyPassword = "secretKey"
	// SecretKeyHeader is the key of a secret extra header.
	SecretKeyHeader = "secretHeader"
	// SecretKeyGoogle is the key of a GCS source's Secret.
	SecretKeyGoogle = "credentials.json"
)

// Prefixes and suffixes of what is made for one claim. Names that grow too long end in a hash; see the functions of the
// controller's pod package.
const (
	ImporterPrefix     = "importer"       // importer-<pvc>
	UploadPrefix       = "cdi-upload"     // cdi-upload-<pvc>: pod, Service, Secret
	PrimePrefix        = "prime"          // prime-<uid of the target claim>
	CloneSourceSuffix  = "-source-pod"    // <uid of the target claim>-source-pod
	ScratchSuffix      = "-scratch"       // <pvc>-scratch
	TempClaimPrefix    = "tmp-pvc"        // tmp-pvc-<uid>
	TempSnapshotPrefix = "tmp-snapshot"   // tmp-snapshot-<uid>
	TempSourcePrefix   = "tmp-source-pvc" // tmp-source-pvc-<uid>
	PrepPrefix         = "prep"
)
